"""Every script of ``benchmarks/`` finds what it imports when it is started by itself."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMPORT_ALL = """
import runpy, sys
before, known = list(sys.path), set(sys.modules)
for script in sys.argv[1:]:
    sys.path[:] = [script.rpartition("/")[0], *before]
    for name in set(sys.modules) - known:  # what another one found by its own path
        if "tests" in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    try:
        runpy.run_path(script, run_name="imported")
    except ImportError as error:
        print(script.rpartition("benchmarks/")[2], error)
"""


def test_every_script_finds_its_imports() -> None:
    scripts = sorted(str(path) for path in (ROOT / "benchmarks").rglob("*.py") if path.parent.name != "gpu")
    assert len(scripts) > 10
    command = [sys.executable, "-c", IMPORT_ALL, *scripts]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == ""
