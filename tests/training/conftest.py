"""A project folder in which tiny runs can be trained."""

import shutil
from pathlib import Path

import pytest
import yaml
from tiny_run import BACKBONE, DATASET, ROOT, SCHEDULE, STUDY, tood


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
def project(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template / "params", tmp_path / "params")
    (tmp_path / "data").symlink_to(template / "data")
    return tmp_path
