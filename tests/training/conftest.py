"""A project folder in which tiny runs can be trained."""

import shutil
from pathlib import Path

import pytest
from tiny_run import make_project


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with the tiny study's params and data."""
    folder = tmp_path_factory.mktemp("project")
    make_project(folder)
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template / "params", tmp_path / "params")
    (tmp_path / "data").symlink_to(template / "data")
    return tmp_path
