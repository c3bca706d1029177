"""Methods of a developer's own, written to a file as they would be, for tests of the trial before training."""

import re
from pathlib import Path
from typing import Any

import pytest

from tood.config.messages import validate
from tood.config.method import MethodConfig
from tood.detection.trial.try_method import try_method
from tood.io.errors import UserError

PARAMS = Path(__file__).parents[2] / "params"
QUICK = ("atss", "free_anchor", "gfl", "paa", "pisa", "tood")
METHODS = sorted(path.stem for path in (PARAMS / "methods").glob("*.yaml"))
FILE = "extensions/mine.py"
LOSSES, TARGETS = f"{FILE}:Losses", f"{FILE}:Targets"

IMPORTS = """
import functools, itertools, random
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import PrivateAttr
from torch import nn
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.criteria.base import Criterion, LossTerm
from tood.detection.criteria.focal import FocalCriterion
from tood.detection.assigners.base import Assigner
"""
SCALED = "return [replace(term, per_location=term.per_location * {by}) for term in super().losses(batch, assignment)]"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "extensions").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def method(code: str, criterion: dict[str, Any] | None = None, **head: Any) -> MethodConfig:
    """A method whose criterion is by default ``Losses`` of this code, written to ``extensions/mine.py``."""
    Path(FILE).write_text(IMPORTS + code)
    content = {
        "name": "mine",
        "head": {"kind": "parallel", "boxes": "distance", **head},
        "criterion": criterion or {"kind": LOSSES},
    }
    found: MethodConfig = validate(MethodConfig, content, "params/methods/mine.yaml")
    return found


def refused(found: MethodConfig, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        try_method(found, **options)
    for sentence in caught.value.sentences:
        assert re.match(r"extensions/mine\.py: class \w+ ", sentence), sentence
        assert "\n" not in sentence
        assert sentence.endswith(".")
    return "\n".join(caught.value.sentences)


def losses(by: str, *, head: str = "", body: str = "", before: str = "") -> str:
    """ATSS' losses multiplied ``by`` something."""
    return f"""
{before}
class Losses(FocalCriterion):
    {head or "pass"}
    def losses(self, batch, assignment):
        {body or "pass"}
        {SCALED.format(by=by)}
"""


def changed_term(change: str, place: int = 1) -> str:
    return f"""
class Losses(FocalCriterion):
    def losses(self, batch, assignment):
        terms = super().losses(batch, assignment)
        term = terms[{place}]
        terms[{place}] = replace(term, {change})
        return terms
"""
