"""Edits of every module that change no number, and of one that does, on a finished study of the real tools."""

import os
import subprocess
import sys

import pytest
from tiny_project import ROOT, Project


@pytest.mark.long
def test_edits_of_words_redo_nothing_and_a_changed_constant_asks(finished: Project) -> None:
    program = (str(ROOT / "tests/workflow/edits.py"), "--together", "6", "--project", str(finished.folder))
    without = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    ended = subprocess.run([sys.executable, *program], capture_output=True, text=True, check=False, env=without)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-4000:]
