"""Matched objects of an assignment, and loss terms that several criteria share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tood.detection.assigners.assignment import Assignment
from tood.detection.boxes import encode_deltas
from tood.detection.criteria.class_terms import ClassTerms, class_terms
from tood.detection.losses import focal_loss, quality_focal_loss
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets


@dataclass(frozen=True, eq=False)
class Matched:
    """The objects that locations were assigned to."""

    positive: Tensor
    """(B, N) bool."""
    boxes: Tensor
    """(B, N, 4) pixels; arbitrary where not positive."""
    labels: Tensor
    """(B, N) int64 in 0 .. C - 1; 0 where not positive."""


def match(assignment: Assignment, targets: Targets) -> Matched:
    """Look up the objects that locations were assigned to."""
    boxes, labels = targets.with_a_slot().take(assignment.gt_index)
    return Matched(assignment.positive, boxes, torch.where(assignment.positive, labels, 0))


def boxes_or_target(boxes: Tensor, matched: Matched) -> Tensor:
    """Predicted boxes, replaced by the target where not positive, so that nothing there gets a gradient."""
    return torch.where(matched.positive[..., None], boxes, matched.boxes)


def delta_errors(predictions: Predictions, matched: Matched) -> Tensor:
    """(B, N, 4) predicted deltas minus those of the object, 0 and without gradient where not positive."""
    assert predictions.deltas is not None
    assert predictions.delta_stds is not None
    deltas = encode_deltas(predictions.points.anchors, matched.boxes, predictions.delta_stds)
    return predictions.deltas - torch.where(matched.positive[..., None], deltas, predictions.deltas.detach())


def focal_losses(predictions: Predictions, matched: Matched, *, alpha: float, gamma: float) -> Tensor:
    """(B, N) focal loss (Lin et al. 2017) summed over classes."""
    terms = class_terms(predictions, matched.labels, matched.positive, gamma=gamma)
    return focal_losses_of(terms, matched.positive, alpha=alpha, gamma=gamma)


def focal_losses_of(terms: ClassTerms, positive: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Focal losses from class terms that were computed with this ``gamma``."""
    own = focal_loss(terms.log_hit, terms.log_miss, positive, alpha=alpha, gamma=gamma)
    return (1 - alpha) * terms.background + torch.where(positive, own, 0)


def quality_focal_losses(predictions: Predictions, matched: Matched, quality: Tensor, *, beta: float) -> Tensor:
    """(B, N) quality focal loss (Li et al. 2020) summed over classes; that of the own class is ``quality`` (B, N)."""
    terms = class_terms(predictions, matched.labels, matched.positive, gamma=beta)
    own = quality_focal_loss(terms.log_hit, terms.log_miss, quality, beta=beta)
    return terms.background + torch.where(matched.positive, own, 0)


def positives_per_image(assignment: Assignment, dtype: torch.dtype) -> Tensor:
    """(B,) number of positives; an image without any counts as one."""
    return assignment.positive.sum(dim=1).clamp(min=1).to(dtype)
