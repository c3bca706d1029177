"""No shipped method is refused, and none that keeps only what it may."""

from typing import Any

import pytest

from tood.config.blocks import read_block
from tood.config.messages import validate
from tood.config.method import MethodConfig
from tood.config.parts import is_own
from tood.detection.detector import build_criterion
from tood.detection.trial.try_method import try_method

from .own_methods import (
    LOSSES,
    METHODS,
    PARAMS,
    QUICK,
    TARGETS,
    method,
    project,  # noqa: F401
)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in METHODS]
)
@pytest.mark.parametrize(("classes", "epochs"), [(3, 12), pytest.param(1, 1, marks=pytest.mark.long)])
def test_every_shipped_method_passes(name: str, classes: int, epochs: int) -> None:
    found = validate(MethodConfig, read_block(PARAMS, "methods", name, MethodConfig, name), name)
    assert try_method(found, classes=classes, epochs=epochs) == []


@pytest.mark.parametrize(
    ("head", "criterion"),
    [
        ({"kind": "task_aligned", "boxes": "distance"}, {"kind": "gfl", "dfl_weight": None}),
        ({"kind": "parallel", "boxes": "delta", "alignment": True}, {"kind": "focal", "assigner": {"kind": "max_iou"}}),
        ({"kind": "parallel", "boxes": "delta"}, {"kind": "paa", "unfitted": "background"}),
        ({"kind": "parallel", "boxes": "delta"}, {"kind": "mal", "selection": "whole_bag", "depression": False}),
    ],
)
def test_shipped_parts_in_other_compositions_pass(head: dict[str, Any], criterion: dict[str, Any]) -> None:
    assert try_method(method("", criterion, **head)) == []


def test_a_method_without_fault_passes_with_all_that_it_may_keep() -> None:
    """Constants, caches of what depends on sizes, helpers, loggers, layers without weights."""
    code = """
import logging
log = logging.getLogger(__name__)
TABLE = {"a": [1, 2], "b": torch.tensor([1.0, 2.0])}
RULE = nn.SmoothL1Loss(reduction="none")

@functools.cache
def grid(n: int) -> torch.Tensor:
    return torch.linspace(1, 1, n)

@functools.lru_cache(maxsize=2)
def last_grids(n: int, step: int) -> torch.Tensor:
    return torch.linspace(1, 1, n) + 0 * step

class Targets(Assigner):
    k: int = 9
    weights: list[float] = [1.0, 2.0]
    def assign(self, batch):
        return AtssAssigner(topk=self.k).assign(batch)

class Losses(FocalCriterion):
    _bins: torch.Tensor = PrivateAttr(default_factory=lambda: torch.arange(5.0))

    @functools.cached_property
    def table(self) -> torch.Tensor:
        return torch.ones(3)

    @torch.no_grad()
    def weight(self, batch):
        log.debug("x")
        draw = torch.Generator().manual_seed(batch.progress.step)
        return 1 + 0.1 * torch.rand((), generator=draw) + 0 * self.table.sum() + batch.progress.epoch

    def losses(self, batch, assignment):
        n = batch.predictions.boxes.shape[1]
        by = self.weight(batch) * grid(n) * last_grids(n, batch.progress.step)
        return [replace(term, per_location=term.per_location * by) for term in super().losses(batch, assignment)]
"""
    found = method(code, {"kind": LOSSES, "assigner": {"kind": TARGETS, "k": 7}})
    assert is_own(type(build_criterion(found)))
    assert try_method(found) == []
    assert try_method(found, classes=80, epochs=1) == []
