"""Base class of criteria, and normalisation of loss terms by divisors that span processes and micro-batches.

The loss of a step is the mean over its groups of sum / divisor. The published set-ups have one group on each GPU: some
methods divide by the mean of all GPUs' divisors, others each by its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import SerializeAsAny
from torch import Tensor

from tood.config.parts import CriterionPart, Over, parts_of
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.assigners.base import Assigner
from tood.detection.training_batch import Groups, Progress, TrainingBatch

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
    """(B,) what each image contributes to the divisor."""
    floor: float = 1.0
    """The divisor of a group is at least this."""
    epsilon: float = 0.0
    """Added to the divisor at the end."""
    running: Running | None = None
    """Whether its mean over the steps so far divides, instead of the step's own."""


Means = Mapping[str, Tensor]
"""The running divisors of a training by term, each (K,) for the groups of a step, or (1,) where they share one."""


def divisor_shares(terms: Sequence[LossTerm], groups: Groups | None = None) -> Tensor:
    """(T, K) what these terms contribute to the divisors of the step's K groups, without gradient."""
    images = torch.stack([term.normaliser.detach() for term in terms])
    if groups is None:
        return images.sum(dim=1, keepdim=True)
    return images.new_zeros(len(terms), groups.count).index_add_(1, groups.index, images)


def divisors(
    terms: Sequence[LossTerm], total: Tensor | None = None, means: Means | None = None, over: Over = "step"
) -> dict[str, Tensor]:
    """The divisors (K,) of a step's groups by term, or (1,) where all divide by their mean.

    ``total`` (T, K) are the shares summed over processes and micro-batches, by default these terms' own as one group;
    ``means`` the running divisors after the step before.
    """
    shares = divisor_shares(terms) if total is None else total
    if over == "step":
        shares = shares.mean(dim=1, keepdim=True)
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
    terms: Sequence[LossTerm],
    by: Mapping[str, Tensor] | None = None,
    *,
    groups: Groups | None = None,
    world_size: int = 1,
) -> dict[str, Tensor]:
    """Losses by name, each a scalar with gradient, divided ``by`` what :func:`divisors` found (in these terms alone).

    Multiplied by the number of processes, so that averaging gradients over them equals one process with all images.
    """
    by = divisors(terms) if by is None else by
    share = world_size / (1 if groups is None else groups.count)
    losses = {}
    for term in terms:
        divisor = by[term.name] + term.epsilon
        divisor = divisor if len(divisor) == 1 or groups is None else divisor[groups.index]
        losses[term.name] = (term.per_location.sum(dim=1) / divisor).sum() * share
    return losses


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

    def program(self, progress: Progress, locations: int) -> Hashable | None:
        """What the progress changes of a step's operations and of the plain numbers in them; see ``program_of``.

        Always the same value by default: nothing. None: a CUDA graph cannot hold the step. Images have at least so
        many ``locations``. What an assigner reads of the progress is its own to say.
        """
        return ()

    def __call__(self, batch: TrainingBatch) -> list[LossTerm]:
        """Assign, then compute the terms; with autocast disabled."""
        with torch.autocast(batch.predictions.boxes.device.type, enabled=False):
            with torch.no_grad():
                assignment = self.assign(batch)
            return self.losses(batch, assignment)


def program_of(criterion: Criterion, progress: Progress, locations: int) -> Hashable | None:
    """A value that is equal for steps which, on tensors of equal shapes, run the same operations and plain numbers.

    So a CUDA graph of one such step computes the others. None where a part does not know: a class from outside this
    package has to define ``program`` itself, for what it inherits knows nothing of what it does. All images have at
    least so many ``locations``.
    """
    programs = []
    for part in (criterion, *parts_of(criterion)):
        assert isinstance(part, Criterion | Assigner)
        shipped = type(part).__module__.startswith("tood.")
        found = part.program(progress, locations) if shipped or "program" in vars(type(part)) else None
        if found is None:
            return None
        programs.append(found)
    return tuple(programs)


class CriterionWithAssigner(Criterion):
    """A criterion whose :meth:`assign` is the assigner that its options name."""

    assigner: SerializeAsAny[Assigner] = AtssAssigner()

    @property
    def several_anchors(self) -> bool:
        return self.assigner.several_anchors

    def assign(self, batch: TrainingBatch) -> Assignment:
        return self.assigner.assign(batch)
