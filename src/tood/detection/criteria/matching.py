"""Looking up the objects behind an assignment."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tood.detection.assigners.assignment import Assignment
from tood.detection.boxes import encode_deltas
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets


@dataclass(frozen=True, eq=False)
class Matched:
    """The objects behind an assignment."""

    positive: Tensor
    """(B, N) bool."""
    boxes: Tensor
    """(B, N, 4) pixels; arbitrary where not positive."""
    classes: Tensor
    """(B, N, C) bool, true at the class of positive locations."""


def match(assignment: Assignment, targets: Targets, num_classes: int) -> Matched:
    """Look up the objects that locations were assigned to."""
    boxes, labels = targets.with_a_slot().take(assignment.gt_index)
    classes = torch.arange(num_classes, device=labels.device) == labels[..., None]
    return Matched(assignment.positive, boxes, classes & assignment.positive[..., None])


def boxes_or_target(boxes: Tensor, matched: Matched) -> Tensor:
    """Predicted boxes, where not positive the target itself: whatever is there then gets no gradient."""
    return torch.where(matched.positive[..., None], boxes, matched.boxes)


def delta_errors(predictions: Predictions, matched: Matched) -> Tensor:
    """(B, N, 4) predicted deltas less those of the object, 0 and without gradient where not positive."""
    assert predictions.deltas is not None
    assert predictions.delta_stds is not None
    deltas = encode_deltas(predictions.points.anchors, matched.boxes, predictions.delta_stds)
    return predictions.deltas - torch.where(matched.positive[..., None], deltas, predictions.deltas.detach())


def positives_per_image(assignment: Assignment, dtype: torch.dtype) -> Tensor:
    """() number of positives; an image without any counts as one."""
    return assignment.positive.sum(dim=1).clamp(min=1).sum().to(dtype)
