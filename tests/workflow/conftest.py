"""Fixtures for tests that run the real tools on a tiny project."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_project import Project, build_project

BuildOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def finished_template(build_once: BuildOnce) -> Path:
    """The tiny study run once by Snakemake, for tests that start from a finished one."""
    return build_once("finished", lambda folder: build_project(folder).snakemake())


@pytest.fixture
def finished(finished_template: Path, tmp_path: Path) -> Project:
    """A copy of the finished project, to do with as a test likes."""
    folder = tmp_path / "project"
    shutil.copytree(finished_template, folder, symlinks=True)
    return Project(folder)


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    return build_project(tmp_path / "project")
