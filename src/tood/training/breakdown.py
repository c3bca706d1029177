"""Breakdown of a training (loss or gradient not finite): saved state from which ``tood replay`` repeats that step."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tood.io.errors import UserError
from tood.weights.tensor_files import load_tensors, save_tensors

_FORMAT = "tood-breakdown-1"


@dataclass(frozen=True)
class Breakdown:
    """The first step whose loss or gradient was not finite."""

    step: int
    """0-based, over the whole training."""
    epoch: int
    """0-based."""
    image_ids: list[int]
    """Of all processes, in the order of the step."""
    losses: dict[str, float]
    precision: str
    micro_batches: int
    """Parts of the step over all processes."""
    detector: dict[str, Tensor]
    """The weights before the step."""
    means: dict[str, Tensor]
    """The running divisors before the step."""


def write_breakdown(path: Path, breakdown: Breakdown) -> None:
    save_tensors(path, {"format": _FORMAT, **vars(breakdown)})


def read_breakdown(path: Path) -> Breakdown:
    """Read a breakdown; UserError if there is none, or the file is something else."""
    if not path.exists():
        raise UserError(f"{path}: no such file; this run did not break down with the configuration that it has now.")
    content = load_tensors(path)
    if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
        raise UserError(f"{path}: was not written by a training of this version; train the run again.")
    return Breakdown(**content)
