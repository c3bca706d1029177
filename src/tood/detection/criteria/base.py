"""Base class of criteria, and normalisation of loss terms by divisors that span processes and micro-batches."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import SerializeAsAny
from torch import Tensor

from tood.config.parts import CriterionPart
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.assigners.base import Assigner
from tood.detection.training_batch import Progress, TrainingBatch

DIVISOR_EPSILON = 2.0**-23
"""The reference implementation divides every loss sum by its divisor plus this, also by 1 plus this."""


@dataclass(frozen=True)
class Running:
    """A divisor that is an exponential mean over the steps of a training."""

    momentum: float
    initial: float


@dataclass(frozen=True, eq=False)
class LossTerm:
    """One term before normalisation, so that the divisor can span processes and micro-batches."""

    name: str
    per_location: Tensor
    """(B, N), or (B, G) where a term belongs to objects; weighted, not yet divided."""
    normaliser: Tensor
    """() the divisor's share of this process."""
    floor: float = 1.0
    """The divisor summed over all processes is at least this."""
    epsilon: float = 0.0
    """Added to the divisor at the end."""
    running: Running | None = None
    """Whether its mean over the steps so far divides, instead of the step's own."""


Means = Mapping[str, Tensor]
"""The running divisors of a training by term, each ()."""


def divisor_shares(terms: Sequence[LossTerm]) -> Tensor:
    """(T,) the contributions of these terms to their divisors, without gradient."""
    return torch.stack([term.normaliser.detach() for term in terms])


def divisors(terms: Sequence[LossTerm], total: Tensor | None = None, means: Means | None = None) -> dict[str, Tensor]:
    """The divisors () of a step by term, before they are shared out.

    ``total`` (T,) are the shares summed over processes and micro-batches, by default these terms' own; ``means``
    the running divisors after the step before.
    """
    shares = divisor_shares(terms) if total is None else total
    found = {}
    for term, share in zip(terms, shares.unbind(), strict=True):
        divisor = share.clamp(min=term.floor)
        if term.running is not None:
            rule = term.running
            before = (means or {}).get(term.name, torch.full_like(divisor, rule.initial))
            divisor = rule.momentum * before + (1 - rule.momentum) * divisor
        found[term.name] = divisor
    return found


def combine(
    terms: Sequence[LossTerm], by: Mapping[str, Tensor] | None = None, *, world_size: int = 1
) -> dict[str, Tensor]:
    """Losses by name, each a scalar with gradient, divided ``by`` what :func:`divisors` found (in these terms alone).

    Divisors of the whole step are shared out again, so that averaging gradients over k processes equals one process
    with the whole batch.
    """
    by = divisors(terms) if by is None else by
    return {term.name: term.per_location.sum() / (by[term.name] / world_size + term.epsilon) for term in terms}


def running_means(terms: Sequence[LossTerm], by: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The divisors of a step that are running means, which the next step continues."""
    return {term.name: by[term.name] for term in terms if term.running is not None}


class Criterion(CriterionPart, ABC):
    """Base class of criteria: the fields are the options in YAML, :meth:`losses` computes the loss terms.

    See docs/adding_a_method.md.
    """

    @abstractmethod
    def assign(self, batch: TrainingBatch) -> Assignment:
        """Assign an object to every location; called without gradient and autocast."""

    @abstractmethod
    def losses(self, batch: TrainingBatch, assignment: Assignment) -> list[LossTerm]:
        """Loss terms of a given assignment."""

    def features(self, features: Sequence[Tensor], progress: Progress) -> Sequence[Tensor]:
        """The pyramid's features (B, C, h, w each) as the head gets them in training; unchanged by default."""
        return features

    def __call__(self, batch: TrainingBatch) -> list[LossTerm]:
        """Assign, then compute the terms; with autocast disabled."""
        with torch.autocast(batch.predictions.boxes.device.type, enabled=False):
            with torch.no_grad():
                assignment = self.assign(batch)
            return self.losses(batch, assignment)


class CriterionWithAssigner(Criterion):
    """A criterion whose :meth:`assign` is the assigner that its options name."""

    assigner: SerializeAsAny[Assigner] = AtssAssigner()

    @property
    def several_anchors(self) -> bool:
        return self.assigner.several_anchors

    def assign(self, batch: TrainingBatch) -> Assignment:
        return self.assigner.assign(batch)
