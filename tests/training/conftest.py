"""A project folder in which tiny runs can be trained."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked_command import ForkedCommand
from once import BuildOnce
from tiny_run import make_project, reschedule, train

Trained = Callable[..., Path]


@pytest.fixture(scope="session")
def template(build_once: BuildOnce) -> Path:
    """A project folder with the tiny study's params and data."""

    return build_once("tiny", make_project)


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Iterator[Path]:
    yield copy_of(template, tmp_path)
    for process in list(ForkedCommand.running):
        process.kill()


def copy_of(template: Path, folder: Path) -> Path:
    shutil.copytree(template / "params", folder / "params")
    (folder / "data").symlink_to(template / "data")
    return folder


@pytest.fixture(scope="session")
def trained(template: Path, build_once: BuildOnce) -> Trained:
    """The project folder in which a run was trained undisturbed, once for all tests.

    What the command said is in its said.txt. A test that changes something takes a copy of ``results``.
    """

    def train_once(run: str, *more: str, **schedule: object) -> Path:
        def make(folder: Path) -> None:
            copy_of(template, folder)
            reschedule(folder, **schedule)
            (folder / "said.txt").write_text(train(folder, run, *more))

        parts = (run, *more, *(f"{key}={value}" for key, value in schedule.items()))
        return build_once("trained " + " ".join(parts), make)

    return train_once


@pytest.fixture
def finished(project: Path, trained: Trained) -> Path:
    """A project in which the run 'atss' is trained."""
    shutil.copytree(trained("atss") / "results", project / "results")
    return project
