"""A step's gradient depends neither on processes nor on micro-batches."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import equality  # noqa: E402

from tood.detection.detector import build_criterion  # noqa: E402
from tood.detection.training_batch import Progress  # noqa: E402
from tood.training.step import step_gradient  # noqa: E402

TOLERANCE = 1e-5


@pytest.mark.parametrize("objects", [1, 5])
@pytest.mark.parametrize(("name", "epoch"), list(equality.cases()))
def test_micro_batches_give_the_gradient_of_the_whole_batch(name: str, epoch: int, objects: int) -> None:
    batch = equality.make_batch(objects)
    whole, expected = equality.gradient(name, epoch, batch, group=equality.alone())
    assert len(expected) > 20
    assert all(value.isfinite().all() for value in expected.values())
    for parts in (2, 8):
        losses, found = equality.gradient(name, epoch, batch, group=equality.alone(), micro_batches=parts)
        assert equality.largest_error(found, expected) < TOLERANCE
        assert equality.largest_error(losses, whole) < TOLERANCE


def test_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    """Four of them, and two with micro-batches besides; the first has no object at all."""
    ports = ",".join(str(free_port()) for _ in equality.WORLDS)
    command = [sys.executable, "-W", "ignore", str(HERE / "equality.py"), ports, str(tmp_path / "errors.json")]
    subprocess.run(command, check=True, timeout=300)
    errors = json.loads((tmp_path / "errors.json").read_text())
    assert len(errors) == len(equality.WORLDS) * len(list(equality.cases()))
    assert {case: error for case, error in errors.items() if not error < TOLERANCE} == {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_normalisers_forward_leaves_running_statistics_alone() -> None:
    """Live batch normalisation sees every micro-batch once, though it goes forward twice."""
    batch = equality.make_batch(5)
    stepped, forwarded = (equality.make_detector("gfl", norm="batch") for _ in range(2))
    criterion = build_criterion(equality.load_method("gfl"))
    progress = Progress(epoch=0, step=0, total_steps=10)
    step_gradient(stepped, criterion, batch, progress, group=equality.alone(), micro_batches=3)
    for part in batch.split(3):
        forwarded(part.images)
    norms = [module for module in stepped.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(norm.track_running_stats and norm.training for norm in norms)
    expected = dict(forwarded.named_buffers())
    for key, value in stepped.named_buffers():
        torch.testing.assert_close(value, expected[key])
