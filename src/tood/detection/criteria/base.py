"""What all criteria share: their calling convention, and how un-normalised terms become losses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tood.detection.assigners.assignment import Assignment
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets

DIVISOR_EPSILON = 2.0**-23
"""The reference implementation divides every loss sum by its divisor plus this, also by 1 plus this."""


@dataclass(frozen=True, eq=False)
class LossTerm:
    """One term before normalisation, so that the divisor can span processes and micro-batches."""

    name: str
    per_location: Tensor
    """(B, N) weighted, not yet divided."""
    normaliser: Tensor
    """() the divisor's share of this process."""
    floor: float = 1.0
    """The divisor summed over all processes is at least this."""
    epsilon: float = 0.0
    """Added to the divisor at the end."""


def combine(
    terms: Sequence[LossTerm],
    *,
    world_size: int = 1,
    reduce: Callable[[Tensor], Tensor] | None = None,
    total: Tensor | None = None,
) -> dict[str, Tensor]:
    """Losses by name, each a scalar with gradient.

    ``reduce`` sums a tensor over all processes; all divisors travel in one call. Each is then shared out
    again, so that averaging gradients over k processes equals one process with the whole batch. Where the
    terms are only a part of what this process computes for the step, ``total`` (T,) gives the divisors'
    shares summed over all parts and processes already.
    """
    divisors = normalisers(terms, world_size=world_size, reduce=reduce, total=total)
    return {term.name: term.per_location.sum() / divisor for term, divisor in zip(terms, divisors, strict=True)}


def normaliser_shares(terms: Sequence[LossTerm]) -> Tensor:
    """(T,) what these terms add to their divisors, without gradient."""
    return torch.stack([term.normaliser.detach() for term in terms])


def normalisers(
    terms: Sequence[LossTerm],
    *,
    world_size: int = 1,
    reduce: Callable[[Tensor], Tensor] | None = None,
    total: Tensor | None = None,
) -> list[Tensor]:
    """The final divisor of every term, see :func:`combine`."""
    if total is None:
        total = normaliser_shares(terms)
        total = total if reduce is None else reduce(total)
    return [
        share.clamp(min=term.floor) / world_size + term.epsilon
        for term, share in zip(terms, total.unbind(), strict=True)
    ]


@dataclass(frozen=True)
class Progress:
    """How far training is: 0-based epoch and step, and the steps of the whole schedule."""

    epoch: int
    step: int
    total_steps: int


class Criterion(Protocol):
    """Predictions and targets in, loss terms out. ``valid`` (B, N) marks the locations that take part."""

    def assign(self, predictions: Predictions, targets: Targets, valid: Tensor, progress: Progress) -> Assignment:
        """Which object every location shall detect."""
        ...

    def losses(
        self,
        predictions: Predictions,
        targets: Targets,
        valid: Tensor,
        assignment: Assignment,
        progress: Progress,
    ) -> list[LossTerm]:
        """Loss terms of a given assignment."""
        ...

    def __call__(self, predictions: Predictions, targets: Targets, valid: Tensor, progress: Progress) -> list[LossTerm]:
        """Assign, then compute the terms; in full precision also under autocast."""
        ...


class AssignThenLoss:
    """The calling convention of :class:`Criterion`."""

    def __call__(
        self: Criterion, predictions: Predictions, targets: Targets, valid: Tensor, progress: Progress
    ) -> list[LossTerm]:
        with torch.autocast(predictions.boxes.device.type, enabled=False):
            assignment = self.assign(predictions, targets, valid, progress)
            return self.losses(predictions, targets, valid, assignment, progress)
