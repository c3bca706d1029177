"""A study's results to report on, simulated in a second; and one that is mirrored with its model."""

import shutil
from pathlib import Path

import pytest
from logged_model import give_model
from simulated_results import build_study, empty_store, make_study, without_objects

from tood.mlflow_mirror.tracking import sync_study

__all__ = ["empty_store", "make_study", "without_objects"]


@pytest.fixture
def project(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with an empty store."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def run(project: Path) -> Path:
    """A run of the working folder with a model, not mirrored yet."""
    build_study(project, rows={"tood": ("tood", 0.8)}, images=4)
    give_model(Path("results/cells/tood"))
    return Path("results/cells/tood")


@pytest.fixture
def mirrored(run: Path) -> Path:
    """The same, mirrored."""
    sync_study(Path("results"), "cells")
    return run
