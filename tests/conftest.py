"""The order of the tests, what they share, and their threads.

Files that start processes come first, so that no worker is left with one at the end.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from once import BuildOnce

from tood.io.console import LineFormatter

# Before torch and MLflow are imported, here and in the processes that tests start; there is a worker for every
# processor already.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

_FIRST = ("workflow/test_dvc", "training", "golden", "workflow", "weights", "mlflow_mirror", "detection")
"""Files and folders, longest first, and not two at the same time that wait for the same project to be finished."""


class _Kept(logging.Handler):
    """Keeps lines as the console shows them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(LineFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture(autouse=True)
def _console_as_it_was() -> Iterator[None]:
    """A command that runs in the tests' own process attaches the console; the next test finds it detached."""
    logger = logging.getLogger("tood")
    kept = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = kept


@pytest.fixture
def said() -> list[str]:
    """The lines that the package has said since the test began, as the console shows them."""
    logger, handler = logging.getLogger("tood"), _Kept()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    return handler.lines


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start processes come first, so that no worker is left with one at the end."""
    items.sort(key=lambda item: _rank(item.path))


def _rank(path: Path) -> int:
    below = path.relative_to(Path(__file__).parent).as_posix()
    return next((place for place, name in enumerate(_FIRST) if below.startswith(name)), len(_FIRST))


@pytest.fixture(scope="session")
def build_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> BuildOnce:
    """Gives the folder of a name, which the first worker that asks for it builds; it is for reading only."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent  # pytest-xdist: the folder of all workers

    def build(name: str, make: Callable[[Path], object]) -> Path:
        folder, whole = shared / "once" / name, shared / "once" / f"{name}.whole"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                whole.touch()
        return folder

    return build
