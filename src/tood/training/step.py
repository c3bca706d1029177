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
from tood.detection.points import valid_points
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

    Divisors cover the whole step, so all of it goes forward before anything is differentiated. With ``micro_batches``,
    parts of the share are held in memory one after the other: they first go forward without gradient for their
    divisors, unless each group is normalised by itself. (The sum cannot be rescaled afterwards, for every term has a
    divisor of its own.) Nothing here waits for the device.
    """
    share = sum(len(batch.images) for batch in batches)
    images, over = share * group.world, criterion.over
    plain = model.module if isinstance(model, DistributedDataParallel) else model
    live = _learns_statistics(plain)
    most = -(-share // micro_batches)
    if live and groups > 1:  # what a batch normalisation sees must not depend on which groups have one size
        most = min(most, images // groups)
    parts = [part for batch in batches for part in batch.pieces(most)]

    def terms_of(detector: nn.Module, part: Batch) -> list[LossTerm]:
        with autocast(part.images.device, precision):
            predictions = detector(part.images, *_through(criterion, progress))
        valid = valid_points(predictions.points, part.sizes)
        targets = Targets(part.boxes, part.labels, part.valid)
        return criterion(TrainingBatch(predictions, targets, valid, progress, groups_of(part)))

    def groups_of(part: Batch) -> Groups:
        return Groups(part.group, groups, images // groups)

    def differentiated(found: Sequence[tuple[Batch, list[LossTerm]]], by: Means) -> list[dict[str, Tensor]]:
        losses = [combine(terms, by, groups=groups_of(part), world_size=group.world) for part, terms in found]
        torch.stack([loss for one in losses for loss in one.values()]).sum().backward()
        return [{name: loss.detach() for name, loss in one.items()} for one in losses]

    def forward(number: int, part: Batch) -> list[LossTerm]:
        with _gradients_kept_here(model, number < len(parts)):
            return terms_of(model, part)

    def shares_of(terms: list[LossTerm], part: Batch) -> Tensor:
        return divisor_shares(terms, groups_of(part))

    losses: list[dict[str, Tensor]] = []
    if micro_batches == 1:
        found = [(part, forward(number, part)) for number, part in enumerate(parts, start=1)]
        shares = [shares_of(terms, part) for part, terms in found]
        terms = found[0][1]
        by = divisors(terms, group.sum(_total(shares)), means, over)
        losses = differentiated(found, by)
    elif over == "step":
        with torch.no_grad(), _statistics_untouched(plain):
            every = [terms_of(plain, part) for part in parts]
        terms = every[0]
        shares = [shares_of(one, part) for one, part in zip(every, parts, strict=True)]
        by = divisors(terms, group.sum(_total(shares)), means, over)
        for number, part in enumerate(parts, start=1):
            losses += differentiated([(part, forward(number, part))], by)
    else:
        shares = []
        for number, part in enumerate(parts, start=1):
            terms = forward(number, part)
            shares.append(shares_of(terms, part))
            losses += differentiated([(part, terms)], divisors(terms, shares[-1], means, over))
        by = divisors(terms, group.sum(_total(shares)), means, over)
    group.average_gradients(model)
    summed = {name: torch.stack([one[name] for one in losses]).sum() for name in losses[0]}
    return StepLosses(summed, running_means(terms, by))


def _total(shares: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(shares)).sum(0)


def _learns_statistics(model: nn.Module) -> bool:
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
def _statistics_untouched(model: nn.Module) -> Iterator[None]:
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
