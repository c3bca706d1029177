"""How the tests run Triton kernels without a GPU."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture
def run_file(tmp_path: Path) -> Callable[..., None]:
    """Runs a file of tests, which all have to pass, in a process of its own with these variables.

    Triton reads whether to interpret kernels when it is imported, and then does so for the life of the process.
    """
    pytest.importorskip("triton", reason="PyTorch's builds for CPUs come without it")

    def run(name: str, **variables: str) -> None:
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(HERE / name)]
        environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "cache"), **variables}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "skipped" not in done.stdout, done.stdout

    return run
