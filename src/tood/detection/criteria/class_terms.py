"""Classification loss summed over classes: the background terms of focal losses, computed piece by piece.

Nearly all classes of nearly all locations are background, so the focal losses spend most of their time and memory on
this sum. It is computed in one pass that stores only its derivative; the loss of a location's own class is left to the
criteria.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from tood.detection.assigners.assignment import chunk_length, elements_at_once
from tood.detection.predictions import Predictions

LossAndSlope = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""From logits (B, n, C) of some locations and which those are: the loss of every class and its derivative."""


@dataclass(frozen=True, eq=False)
class ClassTerms:
    """All (B, N)."""

    background: Tensor
    """Sum of p^gamma * -log(1 - p) over the classes that are not the location's own."""
    log_hit: Tensor
    """log p of its own class; arbitrary where it has none."""
    log_miss: Tensor
    """log(1 - p) of its own class; likewise."""


def class_terms(predictions: Predictions, labels: Tensor, positive: Tensor, *, gamma: float) -> ClassTerms:
    """The terms for locations whose own class is ``labels`` (B, N) where ``positive`` (B, N)."""
    index = torch.where(positive, labels, 0)[..., None]
    if predictions.alignment_logits is None:
        background, own = _background(predictions.class_logits, index, positive[..., None], gamma)
        log_hit, log_miss = replace(predictions, class_logits=own).log_probabilities()
        return ClassTerms(background, log_hit.squeeze(2), log_miss.squeeze(2))
    log_hit, log_miss = predictions.log_probabilities()
    every = (gamma * log_hit).exp() * -log_miss
    others = every.scatter(2, index, every.gather(2, index).masked_fill(positive[..., None], 0))
    return ClassTerms(others.sum(dim=2), log_hit.gather(2, index).squeeze(2), log_miss.gather(2, index).squeeze(2))


def pieces_of(logits: Tensor, *, widest: int = 0, elements: int | None = None) -> tuple[slice, ...]:
    """Cut the locations of logits (B, N, C) so that ``elements``, by default what suits the device, are seen at once.

    ``widest`` is the number of elements per location of other dense tensors, if that is more than C.
    """
    images, length, classes = logits.shape
    step = chunk_length(images, max(classes, widest), elements or elements_at_once(logits.device))
    return tuple(slice(start, start + step) for start in range(0, length, step))


def sum_over_classes(
    logits: Tensor, index: Tensor, rule: LossAndSlope, pieces: tuple[slice, ...]
) -> tuple[Tensor, Tensor]:
    """A loss of every class of logits (B, N, C) summed (B, N), and the logits (B, N, 1) at ``index`` (B, N, 1).

    ``rule`` sees one of the ``pieces`` at a time. Only the first derivative exists.
    """
    loss, own = _SumOverClasses.apply(logits, index, rule, pieces)
    return loss, own


class _SumOverClasses(torch.autograd.Function):
    """Loss and derivative piece by piece, while a piece lies in the caches; only one (B, N, C) tensor is kept."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, index: Tensor, rule: LossAndSlope, pieces: tuple[slice, ...]
    ) -> tuple[Tensor, Tensor]:
        loss = logits.new_empty(logits.shape[:2])
        slope = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        for piece in pieces:
            value, derivative = rule(logits[:, piece], piece)
            loss[:, piece] = value.sum(dim=2)
            if slope is not None:
                slope[:, piece] = derivative
        ctx.save_for_backward(slope, index)
        return loss, logits.gather(2, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss: Tensor, own: Tensor) -> tuple[Tensor, None, None, None]:
        slope, index = ctx.saved_tensors
        return (slope * loss[..., None]).scatter_add_(2, index, own), None, None, None


def _background(logits: Tensor, index: Tensor, positive: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    def rule(some: Tensor, piece: slice) -> tuple[Tensor, Tensor]:
        score, cost = some.sigmoid(), F.softplus(some)
        power = score.pow(gamma)
        slope = (1 - score).mul_(cost).mul_(gamma).add_(score).mul_(power)
        loss = cost.mul_(power)
        own, out = index[:, piece], positive[:, piece]
        for values in (loss, slope):
            values.scatter_(2, own, values.gather(2, own).masked_fill_(out, 0))
        return loss, slope

    return sum_over_classes(logits, index, rule, pieces_of(logits))
