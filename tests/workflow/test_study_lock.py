"""One Snakemake at a time works on a study, and one that was killed stands in nobody's way."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_project import Project, build_project

from tood.io.errors import UserError
from tood.workflow.study_lock import StudyLock

HOLDER = (
    "import sys; from tood.workflow.study_lock import StudyLock\n"
    "lock = StudyLock('demo'); lock.take(); print(flush=True); sys.stdin.readline()"
)


def start_holder(folder: Path) -> "subprocess.Popen[str]":
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    return holder


def test_a_second_snakemake_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    project: Project = build_project(tmp_path / "project")
    command = ("snakemake", "--cores", "1", "data/shapes/dataset.json")
    holder = start_holder(project.folder)
    said = project.run(*command, status=1)
    assert f"study 'demo': another Snakemake (process {holder.pid}) is at work on it in this folder" in said
    assert "Traceback" not in said
    assert not (project.folder / "data").exists()
    holder.kill()
    holder.wait()
    project.run(*command)
    assert (project.folder / "data/shapes/dataset.json").is_file()


def test_a_plan_made_while_another_one_worked_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    early = StudyLock("demo")
    other = StudyLock("paper/table1")
    holder = start_holder(tmp_path)
    late = StudyLock("demo")
    holder.communicate("\n")
    for stale in (early, late):
        with pytest.raises(UserError, match=r"another Snakemake ended its work on it just now; repeat the command"):
            stale.take()
    other.take()
    StudyLock("demo").take()
