"""A project folder in which tiny runs can be trained."""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from tiny_run import BACKBONE, DATASET, ROOT, SCHEDULE, STUDY, tood, train
from tood_process import ToodProcess

Trained = Callable[..., tuple[Path, str]]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with the tiny study's params and data."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "params", folder / "params")
    for path, content in {
        "studies/tiny": STUDY,
        "datasets/tiny": DATASET,
        "backbones/tiny": BACKBONE,
        "schedules/tiny": SCHEDULE,
    }.items():
        (folder / "params" / f"{path}.yaml").write_text(yaml.safe_dump(content))
    tood(folder, "data", "prepare", "tiny")
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Iterator[Path]:
    yield copy_of(template, tmp_path)
    for process in list(ToodProcess.running):
        process.kill()


def copy_of(template: Path, folder: Path) -> Path:
    shutil.copytree(template / "params", folder / "params")
    (folder / "data").symlink_to(template / "data")
    return folder


@pytest.fixture(scope="session")
def trained(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The project folder in which a run was trained once for all tests, undisturbed, and what the command said.

    It is for reading; ``finished`` has a copy to do with as a test likes.
    """

    @cache
    def train_once(run: str) -> tuple[Path, str]:
        folder = copy_of(template, tmp_path_factory.mktemp("trained"))
        return folder, train(folder, run)

    return train_once


@pytest.fixture
def finished(project: Path, trained: Trained) -> Path:
    """A project in which the run 'atss' is trained."""
    shutil.copytree(trained("atss")[0] / "results", project / "results")
    return project
