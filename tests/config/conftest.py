"""A copy of the project's parameters to edit."""

import shutil
from pathlib import Path

import pytest

PARAMS = Path(__file__).parents[2] / "params"


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """Its study ``demo`` counts epochs, with the schedule and the backbone of the studies at scale demo."""
    copy = Path(shutil.copytree(PARAMS, tmp_path / "params"))
    study = copy / "studies/demo.yaml"
    text = study.read_text()
    assert "backbone: quick" in text
    assert "schedule: quick" in text
    study.write_text(text.replace("backbone: quick", "backbone: light").replace("schedule: quick", "schedule: demo"))
    return copy
