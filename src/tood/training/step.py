"""The gradient of one optimiser step, whose images may be spread over processes and over micro-batches."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from tood.data.loader import Batch
from tood.detection.criteria.base import Criterion, LossTerm, Progress, combine, normaliser_shares
from tood.detection.points import valid_points
from tood.detection.targets import Targets
from tood.training.distributed import Group
from tood.training.precision import autocast


def step_gradient(
    model: nn.Module,
    criterion: Criterion,
    batch: Batch,
    progress: Progress,
    *,
    group: Group,
    precision: str = "float32",
    micro_batches: int = 1,
) -> dict[str, Tensor]:
    """Add the gradient of a step's losses to the parameters and return this process's losses, detached.

    ``model`` is a detector as ``group.wrap`` returned it, ``batch`` this process's share of the step, of which
    ``micro_batches`` equal parts are held in memory one after the other. Their divisors cover the whole step,
    so they have to be known before the first part can be differentiated: all parts first go forward without
    gradient. (The sum cannot be rescaled afterwards, for every term has a divisor of its own.) Nothing here
    waits for the device.
    """
    parts = batch.split(micro_batches)
    total = None
    if micro_batches > 1:
        plain = model.module if isinstance(model, DistributedDataParallel) else model
        with torch.no_grad(), _statistics_untouched(plain):
            shares = [normaliser_shares(_terms(plain, criterion, part, progress, precision)) for part in parts]
        total = group.sum(torch.stack(shares).sum(0))
    summed: dict[str, Tensor] = {}
    for number, part in enumerate(parts, start=1):
        with _gradients_kept_here(model, number < micro_batches):
            terms = _terms(model, criterion, part, progress, precision)
            losses = combine(terms, world_size=group.world, reduce=group.sum, total=total)
            torch.stack(list(losses.values())).sum().backward()
        for name, loss in losses.items():
            summed[name] = loss.detach() + summed[name] if name in summed else loss.detach()
    return summed


def _terms(model: nn.Module, criterion: Criterion, batch: Batch, progress: Progress, precision: str) -> list[LossTerm]:
    with autocast(batch.images.device, precision):
        predictions = model(batch.images)
    valid = valid_points(predictions.points, batch.sizes)
    return criterion(predictions, Targets(batch.boxes, batch.labels, batch.valid), valid, progress)


def _gradients_kept_here(model: nn.Module, kept: bool) -> AbstractContextManager[None]:
    """Leave exchanging gradients between processes to the last micro-batch."""
    if kept and isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return nullcontext()


@contextmanager
def _statistics_untouched(model: nn.Module) -> Iterator[None]:
    """Let batch normalisations that are training normalise as ever, but not count the images a second time."""
    live = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    live = [module for module in live if module.track_running_stats]
    for module in live:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in live:
            module.track_running_stats = True
