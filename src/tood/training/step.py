"""Gradient of one optimiser step, whose images may be spread over processes and micro-batches."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from tood.data.batch import Batch
from tood.detection.criteria.base import Criterion, LossTerm, Means, combine, divisor_shares, divisors, running_means
from tood.detection.detector import Through
from tood.detection.number_format import autocast
from tood.detection.points import Points, valid_points
from tood.detection.targets import Targets
from tood.detection.training_batch import Groups, Progress, TrainingBatch
from tood.training.processes.distributed import Group


@dataclass(frozen=True)
class StepLosses:
    """Losses and divisors of a step, besides the gradient."""

    losses: dict[str, Tensor]
    """This process's losses, detached."""
    means: dict[str, Tensor]
    """The running divisors, for the next step."""


def step_gradient(
    model: nn.Module,
    criterion: Criterion,
    batches: Sequence[Batch],
    progress: Progress,
    *,
    group: Group,
    groups: int = 1,
    precision: str = "float32",
    micro_batches: int = 1,
    means: Means | None = None,
) -> StepLosses:
    """Add the gradient of a step's losses to the parameters.

    ``model`` is a detector as ``group.wrap`` returned it, ``batches`` are this process's share of the step, whose
    images are in ``groups`` groups over all processes. ``means`` are the running divisors after the step before.
    Nothing here waits for the device.
    """
    step = HalvedStep(
        model,
        criterion,
        batches,
        progress,
        world=group.world,
        groups=groups,
        precision=precision,
        micro_batches=micro_batches,
        means=means,
    )
    found = step.losses(group.sum(step.shares()))
    group.average_gradients(model)
    return found


class HalvedStep:
    """A step in two halves, between which the divisors' shares are summed over processes.

    Divisors cover the whole step, so all of it goes forward before anything is differentiated. With ``micro_batches``,
    parts of the share are held in memory one after the other: they first go forward without gradient for their
    divisors, unless each group is normalised by itself. (The sum cannot be rescaled afterwards, for every term has a
    divisor of its own.)
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        batches: Sequence[Batch],
        progress: Progress,
        *,
        world: int,
        groups: int,
        precision: str,
        micro_batches: int,
        means: Means | None,
    ) -> None:
        share = sum(len(batch.images) for batch in batches)
        self._model, self._criterion, self._progress = model, criterion, progress
        self._plain = model.module if isinstance(model, DistributedDataParallel) else model
        self._world, self._groups, self._size = world, groups, share * world // groups
        self._precision, self._means = precision, means
        most = -(-share // micro_batches)
        if groups > 1 and learns_statistics(self._plain):
            # What a batch normalisation sees must not depend on which groups have one size.
            most = min(most, self._size)
        self._parts = [part for batch in batches for part in batch.pieces(most)]
        self._divided = micro_batches > 1
        self._terms: list[LossTerm] = []
        self._waiting: list[tuple[Batch, list[LossTerm]]] = []
        """What went forward and is still to be differentiated."""
        self._losses: list[dict[str, Tensor]] = []
        self.points: list[Points] = []
        """The locations that it read, of one part after the other; a cache may hold them too, but not for ever."""

    def shares(self) -> Tensor:
        """The first half: what this process contributes to the divisors (T, K), without gradient."""
        over = self._criterion.over
        if self._divided and over == "step":
            with torch.no_grad(), statistics_untouched(self._plain):
                found = [(part, self._terms_of(self._plain, part)) for part in self._parts]
            shares = [self._shares_of(terms, part) for part, terms in found]
        elif self._divided:
            shares = []
            for number, part in enumerate(self._parts, start=1):
                found = [(part, self._forward(number, part))]
                shares.append(self._shares_of(found[0][1], part))
                self._differentiate(found, divisors(found[0][1], shares[-1], self._means, over))
        else:
            found = [(part, self._forward(number, part)) for number, part in enumerate(self._parts, start=1)]
            shares = [self._shares_of(terms, part) for part, terms in found]
            self._waiting = found
        self._terms = found[0][1]
        return torch.stack(shares).sum(0)

    def losses(self, total: Tensor) -> StepLosses:
        """The second half, after which the parameters have the gradient; ``total`` (T, K) are all processes' shares."""
        over = self._criterion.over
        by = divisors(self._terms, total, self._means, over)
        if not self._divided:
            self._differentiate(self._waiting, by)
        elif over == "step":
            for number, part in enumerate(self._parts, start=1):
                self._differentiate([(part, self._forward(number, part))], by)
        summed = {name: torch.stack([one[name] for one in self._losses]).sum() for name in self._losses[0]}
        return StepLosses(summed, running_means(self._terms, by))

    def _terms_of(self, detector: nn.Module, part: Batch) -> list[LossTerm]:
        with autocast(part.images.device, self._precision):
            predictions = detector(part.images, *_through(self._criterion, self._progress))
        self.points.append(predictions.points)
        valid = valid_points(predictions.points, part.sizes)
        targets = Targets(part.boxes, part.labels, part.valid)
        return self._criterion(TrainingBatch(predictions, targets, valid, self._progress, self._groups_of(part)))

    def _groups_of(self, part: Batch) -> Groups:
        return Groups(part.group, self._groups, self._size)

    def _shares_of(self, terms: list[LossTerm], part: Batch) -> Tensor:
        return divisor_shares(terms, self._groups_of(part))

    def _forward(self, number: int, part: Batch) -> list[LossTerm]:
        with _gradients_kept_here(self._model, number < len(self._parts)):
            return self._terms_of(self._model, part)

    def _differentiate(self, found: Sequence[tuple[Batch, list[LossTerm]]], by: Means) -> None:
        losses = [combine(terms, by, groups=self._groups_of(part), world_size=self._world) for part, terms in found]
        torch.stack([loss for one in losses for loss in one.values()]).sum().backward()
        self._losses += [{name: loss.detach() for name, loss in one.items()} for one in losses]


def learns_statistics(model: nn.Module) -> bool:
    """Whether a batch normalisation is in training mode."""
    return any(isinstance(module, _BatchNorm) and module.training for module in model.modules())


def _through(criterion: Criterion, progress: Progress) -> list[Through]:
    """The criterion's change of the pyramid's features; empty for most, so that a compiled graph stays whole."""
    if type(criterion).features is Criterion.features:
        return []
    return [partial(criterion.features, progress=progress)]


def _gradients_kept_here(model: nn.Module, kept: bool) -> AbstractContextManager[None]:
    """Exchange no gradients between processes in this micro-batch; the last one does."""
    if kept and isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return nullcontext()


@contextmanager
def statistics_untouched(model: nn.Module) -> Iterator[None]:
    """Let batch normalisations in training mode normalise as usual, but not update their statistics a second time."""
    live = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    live = [module for module in live if module.track_running_stats]
    for module in live:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in live:
            module.track_running_stats = True
