"""Fixtures for tests that run the real tools on a tiny project."""

from pathlib import Path

import pytest
from once import BuildOnce
from tiny_project import Project, build_project, copied


@pytest.fixture(scope="session")
def finished_template(build_once: BuildOnce) -> Path:
    """The tiny study run once by Snakemake, for tests that start from a finished one."""
    return build_once("finished", lambda folder: build_project(folder).snakemake())


@pytest.fixture
def finished(finished_template: Path, tmp_path: Path) -> Project:
    return copied(finished_template, tmp_path / "project")


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    return build_project(tmp_path / "project")
