"""``tood new``: the files of a project are those at the repository's root, in a folder that is whole or not there."""

import os
import subprocess
from pathlib import Path

import pytest

from tood.config.study import load_study
from tood.io.errors import UserError
from tood.verbs import new_project as verb
from tood.verbs.new_project import new_project
from tood.workflow import project_files
from tood.workflow.dvc_pipelines import study_names
from tood.workflow.project_files import files_root

ROOT = Path(__file__).parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def versioned() -> set[str]:
    """The files at the repository's root that git knows and a project needs."""
    listed = subprocess.run(
        ["git", "ls-files", "--", *project_files.NAMES], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return set(listed.stdout.splitlines())


def test_a_new_project_has_the_files_of_the_repository(tmp_path: Path) -> None:
    new_project(tmp_path / "deep" / "project")
    made = contents(tmp_path / "deep" / "project")
    assert set(made) >= versioned() | {"README.md"}
    assert all(made[name] == (ROOT / name).read_bytes() for name in versioned())
    assert os.access(tmp_path / "deep/project/profiles/kubernetes/submit.py", os.X_OK)
    assert not os.access(tmp_path / "deep/project/Snakefile", os.X_OK)


def test_every_study_composes_in_a_new_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_project(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    names = study_names(Path("params"))
    assert names == study_names(ROOT / "params")
    assert all(load_study(name).runs for name in names)


def test_what_commands_leave_is_not_copied(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for name in project_files.NAMES:
        path = clone / name
        path.mkdir(parents=True) if (ROOT / name).is_dir() else _write(path)
    for left in ("workflow/dvc/reported/dvc.yaml", "workflow/dvc/dvc.lock", "workflow/rules/__pycache__/a.pyc"):
        _write(clone / left)
    for left in ("params/.tood-1.yaml", "dvc.lock", "data/shapes/dataset.json", "results/demo/report.html"):
        _write(clone / left)
    _write(clone / "params/studies/demo.yaml")
    assert [file.as_posix() for file in project_files.project_files(clone)] == [
        ".dvcignore",
        ".gitignore",
        "Snakefile",
        "data/README.md",
        "dvc.yaml",
        "params/studies/demo.yaml",
        "results/README.md",
    ]


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")


def test_an_empty_folder_becomes_the_project(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    new_project(tmp_path / "project")
    assert (tmp_path / "project/Snakefile").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


@pytest.mark.parametrize("inside", ["mine.txt", ".git"])
def test_a_folder_that_is_not_empty_is_refused_and_left(tmp_path: Path, inside: str) -> None:
    _write(tmp_path / "project" / inside)
    with pytest.raises(UserError, match="project: is not empty"):
        new_project(tmp_path / "project")
    assert list(contents(tmp_path)) == [f"project/{inside}"]


def test_a_file_is_refused_and_left(tmp_path: Path) -> None:
    _write(tmp_path / "project")
    with pytest.raises(UserError, match="project: is a file"):
        new_project(tmp_path / "project")
    assert contents(tmp_path) == {"project": b""}


def test_a_name_that_snakemake_cannot_work_with_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rename the folder"):
        new_project(tmp_path / "{0}")
    assert not list(tmp_path.iterdir())


def test_what_fails_halfway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        _write(target / "Snakefile")
        raise OSError(28, "No space left on device", str(target / "params"))

    monkeypatch.setattr(verb, "copy_files", full)
    with pytest.raises(UserError, match="No space left on device"):
        new_project(tmp_path / "project")
    assert not list(tmp_path.iterdir())


def test_an_installation_without_the_files_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project_files, "_PACKAGE", tmp_path / "lib" / "site-packages" / "tood")
    assert files_root() is None
    with pytest.raises(UserError, match="lacks the files of a project"):
        new_project(tmp_path / "project")
    assert not list(tmp_path.iterdir())
