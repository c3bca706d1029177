"""Gradient of one optimiser step, whose images may be spread over processes and micro-batches."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from tood.data.loader import Batch
from tood.detection.criteria.base import Criterion, LossTerm, Means, combine, divisor_shares, divisors, running_means
from tood.detection.detector import Through
from tood.detection.points import valid_points
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress, TrainingBatch
from tood.training.precision import autocast
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
    batch: Batch,
    progress: Progress,
    *,
    group: Group,
    precision: str = "float32",
    micro_batches: int = 1,
    means: Means | None = None,
) -> StepLosses:
    """Add the gradient of a step's losses to the parameters.

    ``model`` is a detector as ``group.wrap`` returned it, ``batch`` this process's share of the step, of which
    ``micro_batches`` equal parts are held in memory one after the other. Their divisors cover the whole step,
    so they have to be known before the first part can be differentiated: all parts first go forward without
    gradient. (The sum cannot be rescaled afterwards, for every term has a divisor of its own.) ``means`` are the
    running divisors after the step before. Nothing here waits for the device.
    """
    parts = batch.split(micro_batches)
    images = len(batch.images) * group.world

    def terms_of(detector: nn.Module, part: Batch) -> list[LossTerm]:
        with autocast(part.images.device, precision):
            predictions = detector(part.images, *_through(criterion, progress))
        valid = valid_points(predictions.points, part.sizes)
        targets = Targets(part.boxes, part.labels, part.valid)
        return criterion(TrainingBatch(predictions, targets, valid, progress, images))

    divide_by: dict[str, Tensor] = {}
    if micro_batches > 1:
        plain = model.module if isinstance(model, DistributedDataParallel) else model
        with torch.no_grad(), _statistics_untouched(plain):
            every = [terms_of(plain, part) for part in parts]
        total = group.sum(torch.stack([divisor_shares(terms) for terms in every]).sum(0))
        divide_by = divisors(every[0], total, means)
    summed: dict[str, Tensor] = {}
    for number, part in enumerate(parts, start=1):
        with _gradients_kept_here(model, number < micro_batches):
            terms = terms_of(model, part)
            divide_by = divide_by or divisors(terms, group.sum(divisor_shares(terms)), means)
            losses = combine(terms, divide_by, world_size=group.world)
            torch.stack(list(losses.values())).sum().backward()
        for name, loss in losses.items():
            summed[name] = loss.detach() + summed[name] if name in summed else loss.detach()
    group.average_gradients(model)
    return StepLosses(summed, running_means(terms, divide_by))


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
