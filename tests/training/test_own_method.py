"""A method of one's own that would lose something in silence does not begin to train."""

from pathlib import Path

import pytest
import yaml
from tiny_run import STUDY, tood, train

FAULTY = """
from typing import Any

import torch
from pydantic import PrivateAttr
from torch import nn
from tood.detection.criteria.focal import FocalCriterion

class Learned(FocalCriterion):
    _temperature: Any = PrivateAttr(default_factory=lambda: nn.Parameter(torch.ones(())))
"""


@pytest.fixture
def faulty(project: Path) -> Path:
    (project / "extensions").mkdir()
    (project / "extensions/faulty.py").write_text(FAULTY)
    method = {"head": {"kind": "parallel", "boxes": "distance"}, "criterion": {"kind": "extensions/faulty.py:Learned"}}
    (project / "params/methods/faulty.yaml").write_text(yaml.safe_dump(method))
    study = {**STUDY, "baseline": "faulty", "runs": {"faulty": {"method": "faulty"}}}
    (project / "params/studies/tiny.yaml").write_text(yaml.safe_dump(study))
    return project


@pytest.mark.parametrize("more", [(), ("--processes", "2")])
def test_it_is_refused_before_anything_is_written(faulty: Path, more: tuple[str, ...]) -> None:
    said = train(faulty, "faulty", *more, status=2)
    assert "extensions/faulty.py: class Learned holds a Parameter of shape () in self._temperature" in said
    written = [path.relative_to(faulty / "results").as_posix() for path in (faulty / "results").rglob("*")]
    assert {path for path in written if not (faulty / "results" / path).is_dir()} == {
        "tiny/faulty/state/failure.json"  # by which the workflow's next attempt ends at once
    }


def test_it_is_refused_by_a_command_that_trains_nothing(faulty: Path) -> None:
    said = tood(faulty, "info", "--method", "faulty", "--backbone", "tiny", status=2)
    assert "self._temperature" in said
