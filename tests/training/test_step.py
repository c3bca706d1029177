"""A step's gradient depends neither on processes nor on micro-batches."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import equality
import pytest
import torch
from forked_command import SERVER
from torch import nn
from torch.nn.functional import pad

from tood.detection.detector import build_criterion
from tood.detection.training_batch import Progress
from tood.training.step import step_gradient

TOLERANCE = 1e-5


@pytest.mark.parametrize("objects", [1, 5])
@pytest.mark.parametrize(("name", "epoch", "groups"), list(equality.cases()))
def test_micro_batches_give_the_gradient_of_the_whole_batch(name: str, epoch: int, groups: int, objects: int) -> None:
    batch, group = equality.make_batch(objects), equality.alone()
    whole, expected = equality.gradient(name, epoch, batch, groups=groups, group=group)
    assert len(expected) > 20
    assert all(value.isfinite().all() for value in expected.values())
    for parts in (2, 8 if groups == 1 else equality.GROUPS):
        losses, found = equality.gradient(name, epoch, batch, groups=groups, group=group, micro_batches=parts)
        assert equality.largest_error(found, expected) < TOLERANCE
        assert equality.largest_error(losses, whole) < TOLERANCE


@pytest.mark.parametrize(("name", "epoch", "groups"), list(equality.cases()))
def test_empty_slots_change_nothing(name: str, epoch: int, groups: int) -> None:
    batch, alone = equality.make_batch(5), equality.alone()
    fields = {"boxes": (0, 0, 0, 11), "labels": (0, 11), "valid": (0, 11)}
    padded = replace(batch, **{field: pad(getattr(batch, field), more) for field, more in fields.items()})
    (few, expected), (many, found) = (
        equality.gradient(name, epoch, one, groups=groups, group=alone) for one in (batch, padded)
    )
    assert equality.largest_error(many, few) < 1e-9
    assert equality.largest_error(found, expected) < 1e-9


def test_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    """Four of them, and two with micro-batches besides; the first has no object at all."""
    ports = [str(free_port()) for _ in equality.WORLDS]
    process = SERVER.Process(target=equality.compare, args=(ports, tmp_path / "errors.json"))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    errors = json.loads((tmp_path / "errors.json").read_text())
    assert len(errors) == len(equality.WORLDS) * len(list(equality.cases())) + 2
    assert {"several passes", "graphs"} <= errors.keys()
    assert {case: error for case, error in errors.items() if not error < TOLERANCE} == {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_normalisers_forward_leaves_running_statistics_alone() -> None:
    """Live batch normalisation sees every micro-batch once, though it goes forward twice."""
    batch = equality.make_batch(5)
    batch = replace(batch, group=torch.zeros_like(batch.group))
    stepped, forwarded = (equality.make_detector("gfl", norm="batch") for _ in range(2))
    criterion = build_criterion(equality.load_method("gfl"))
    progress = Progress(epoch=0, step=0, total_steps=10)
    step_gradient(stepped, criterion, [batch], progress, group=equality.alone(), micro_batches=3)
    for part in batch.split(3):
        forwarded(part.images)
    norms = [module for module in stepped.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(norm.track_running_stats and norm.training for norm in norms)
    expected = dict(forwarded.named_buffers())
    for key, value in stepped.named_buffers():
        torch.testing.assert_close(value, expected[key])


@pytest.mark.parametrize("name", ["retinanet", "pisa", "paa", "free_anchor", "noisy_anchor", "mal"])
def test_groups_are_normalised_each_by_itself(name: str) -> None:
    """As the GPUs of the published set-ups, which average their gradients."""
    batch, alone = equality.make_batch(5), equality.alone()
    _, together = equality.gradient(name, 0, batch, groups=equality.GROUPS, group=alone)
    each = [equality.gradient(name, 0, part, groups=1, group=alone)[1] for part in batch.split(equality.GROUPS)]
    mean = {key: torch.stack([one[key] for one in each]).mean(0) for key in together}
    assert equality.largest_error(together, mean) < TOLERANCE


@pytest.mark.parametrize("name", ["pisa", "retinanet", "atss"])
def test_parts_of_groups_of_several_sizes_keep_groups_whole(name: str) -> None:
    batch, alone = equality.make_batch(5), equality.alone()
    most, rest = (equality.part_of(batch, one) for one in (slice(0, 6), slice(6, 8)))
    criterion = build_criterion(equality.load_method(name))
    found = []
    for batches, parts in (([batch], 1), ([most, rest], 2)):
        detector = equality.make_detector(name)
        progress = Progress(epoch=0, step=0, total_steps=10)
        step_gradient(detector, criterion, batches, progress, group=alone, groups=equality.GROUPS, micro_batches=parts)
        found.append({key: value.grad for key, value in detector.named_parameters() if value.grad is not None})
    assert equality.largest_error(found[1], found[0]) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "norm"), [("tood", "frozen_statistics"), ("paa", "frozen_statistics"), ("gfl", "batch")]
)
def test_groups_of_one_size_may_be_computed_together_or_apart(name: str, norm: str) -> None:
    batch = equality.make_batch(5)
    progress = Progress(epoch=5, step=5, total_steps=10)
    found = []
    for batches in ([batch], batch.split(2), batch.split(4)):
        detector = equality.make_detector(name, norm=norm)
        criterion = build_criterion(equality.load_method(name))
        step_gradient(detector, criterion, batches, progress, group=equality.alone(), groups=equality.GROUPS)
        found.append({key: value.grad for key, value in detector.named_parameters() if value.grad is not None})
    assert all(equality.largest_error(other, found[0]) < TOLERANCE for other in found[1:])
