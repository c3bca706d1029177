"""A training step never needs a value on the host, so it never waits for a GPU.

Proven without one: on tensors that have a shape but no content, whatever would read a value (``.item()``, a boolean
index, ``nonzero``, a data-dependent shape) raises.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from tood.config.backbone import BackboneConfig
from tood.config.blocks import read_block
from tood.config.messages import validate
from tood.config.method import MethodConfig
from tood.data.loader import Batch
from tood.detection.detector import build_criterion, build_detector
from tood.detection.points import make_points
from tood.detection.training_batch import Progress
from tood.training.processes.distributed import Group
from tood.training.step import step_gradient

PARAMS = Path(__file__).parents[2] / "params"
METHODS = sorted(path.stem for path in (PARAMS / "methods").glob("*.yaml"))
EARLY = ("tood", "tood_dcn", "mal")
"""Methods that stand for those whose criterion does something else at the beginning."""
DIVIDED = ("tood", "atss", "paa")
"""Methods that stand for all when a batch is divided."""
CASES = [
    pytest.param(name, epoch, parts, marks=() if name in quick else pytest.mark.long)
    for epoch, parts, quick in ((11, 1, METHODS), (0, 1, EARLY), (11, 2, DIVIDED))
    for name in METHODS
]
BACKBONE = BackboneConfig(name="light", kind="light", width=64, deformable=("c5",))


@pytest.fixture(autouse=True)
def no_cached_grid() -> Iterator[None]:
    make_points.cache_clear()
    yield
    make_points.cache_clear()


def contentless_batch() -> Batch:
    return Batch(
        images=torch.empty(2, 3, 64, 96),
        sizes=torch.empty(2, 2, dtype=torch.int64),
        scales=torch.empty(2, 2),
        original_sizes=torch.empty(2, 2, dtype=torch.int64),
        image_ids=torch.empty(2, dtype=torch.int64),
        boxes=torch.empty(2, 5, 4),
        labels=torch.empty(2, 5, dtype=torch.int64),
        valid=torch.empty(2, 5, dtype=torch.bool),
        group=torch.empty(2, dtype=torch.int64),
    )


@pytest.mark.parametrize(("name", "epoch", "micro_batches"), CASES)
def test_no_step_reads_a_value(name: str, epoch: int, micro_batches: int) -> None:
    method = validate(MethodConfig, read_block(PARAMS, "methods", name, MethodConfig, name), name)
    progress = Progress(epoch=epoch, step=epoch, total_steps=12)
    group = Group(rank=0, world=1, device=torch.device("cpu"))
    with FakeTensorMode():
        detector = build_detector(method, BACKBONE, 3).train()
        found = step_gradient(
            detector,
            build_criterion(method),
            [contentless_batch()],
            progress,
            group=group,
            groups=2,
            micro_batches=micro_batches,
        )
    assert all(loss.shape == () for loss in found.losses.values())
    assert any(parameter.grad is not None for parameter in detector.parameters())


@pytest.mark.parametrize("read", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x.nonzero()])
def test_reading_a_value_would_be_noticed(read: object) -> None:
    assert callable(read)
    with FakeTensorMode(), pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        read(torch.empty(3))
