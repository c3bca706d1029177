"""A training step never needs a value on the host, so it never waits for a GPU.

Proven without one: on tensors that have a shape but no content, whatever would read a value (``.item()``, a boolean
index, ``nonzero``, a data-dependent shape) raises.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tood.config.backbone import BackboneConfig
from tood.config.blocks import read_block
from tood.config.messages import validate
from tood.config.method import MethodConfig
from tood.data.batch import Batch
from tood.detection.detector import build_criterion, build_detector
from tood.detection.number_format import autocast
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
ON_GPU = [
    pytest.param(name, epoch, precision, marks=() if quick else pytest.mark.long)
    for name in METHODS
    for epoch in (0, 11)
    for precision in ("float32", "bf16")
    if epoch or name in EARLY
    for quick in [
        precision == "bf16" and name in (*DIVIDED, *EARLY, "retinanet", "free_anchor", "pisa", "noisy_anchor")
    ]
]
FORMATS = {"float32": torch.float32, "bf16": torch.bfloat16}
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


class OnlyOnGpu(TorchDispatchMode):
    """Refuses every operation that takes or gives a tensor of the CPU, scalars included."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, found)):
            assert not isinstance(leaf, Tensor) or leaf.device.type == "cuda", f"{func}: a tensor of the CPU"
        return found


@pytest.mark.parametrize(("name", "epoch", "precision"), ON_GPU)
def test_forward_pass_and_losses_stay_on_the_gpu(
    name: str, epoch: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a GPU that is not there; without the backward pass, which PyTorch begins on a real one."""
    monkeypatch.setattr(Tensor, "backward", lambda _: None)
    monkeypatch.setattr("torch.amp.autocast_mode.torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    method = validate(MethodConfig, read_block(PARAMS, "methods", name, MethodConfig, name), name)
    progress = Progress(epoch=epoch, step=epoch, total_steps=12)
    group = Group(rank=0, world=1, device=torch.device("cuda"))
    criterion = build_criterion(method)
    with FakeTensorMode():
        with torch.device("cuda"):
            detector, batch = build_detector(method, BACKBONE, 3).train(), contentless_batch()
        with OnlyOnGpu():
            found = step_gradient(detector, criterion, [batch], progress, group=group, groups=2, precision=precision)
        with autocast(group.device, precision):
            assert detector.neck(detector.backbone(batch.images))[0].dtype == FORMATS[precision]
    assert {loss.dtype for loss in found.losses.values()} == {torch.float32}
    assert {loss.device.type for loss in found.losses.values()} == {"cuda"}


def test_a_tensor_of_the_cpu_would_be_noticed() -> None:
    with FakeTensorMode():
        there, here = torch.empty(3, device="cuda"), torch.tensor(2.0)
        with OnlyOnGpu(), pytest.raises(AssertionError, match="mul"):
            there * here


@pytest.mark.parametrize("read", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x.nonzero()])
def test_reading_a_value_would_be_noticed(read: object) -> None:
    assert callable(read)
    with FakeTensorMode(), pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        read(torch.empty(3))
