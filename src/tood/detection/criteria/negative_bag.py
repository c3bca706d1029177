"""FreeAnchor's negative bag loss: anchors are background of a class unless they predict an object of that class."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tood.detection.boxes import box_area, rows_iou
from tood.detection.criteria.class_terms import pieces_of, sum_over_classes
from tood.detection.targets import Targets

SMALLEST_SPAN = 1e-12
"""Least distance between the threshold and an object's best overlap."""


def negative_bag_loss(
    logits: Tensor,
    boxes: Tensor,
    targets: Targets,
    *,
    iou_threshold: float,
    gamma: float,
    dense_elements: int | None = None,
) -> Tensor:
    """q^gamma * -log(1 - q) summed over classes, (B, N), of class logits (B, N, C) and predicted boxes (B, N, 4).

    q = sigmoid(logit) * (1 - P), where P is the probability that the anchor is matched to an object of the class:
    IoU of its predicted box scaled from 0 at ``iou_threshold`` to 1 at the object's best, the largest over
    objects (Zhang et al. 2019, section 3.3). No gradient flows through P.

    The dense part is done in pieces of at most ``dense_elements``, by default what suits the device. Only the
    first derivative exists.
    """
    targets = targets.with_a_slot()
    pieces = pieces_of(logits, widest=targets.boxes.shape[1], elements=dense_elements)
    with torch.no_grad():
        matches = _matches(boxes, targets, iou_threshold, pieces)

    def rule(some: Tensor, piece: slice) -> tuple[Tensor, Tensor]:
        return _loss_and_slope(some, matches.by_class(piece, some.shape[2]), gamma)

    first = torch.zeros_like(boxes[..., :1], dtype=torch.int64)
    return sum_over_classes(logits, first, rule, pieces)[0]


@dataclass(frozen=True, eq=False)
class _Matches:
    """Data from which the matching probability of some of the N locations is computed."""

    sides: Tensor
    """(B, 4, N) of predicted boxes."""
    areas: Tensor
    """(B, N)"""
    objects: Tensor
    """(B, G, 4)"""
    labels: Tensor
    """(B, G)"""
    threshold: float
    span: Tensor
    """(B, G, 1) best overlap less the threshold; inf where there is no object, which then matches nothing."""

    def overlaps(self, piece: slice) -> Tensor:
        """(B, G, n)"""
        return rows_iou(self.objects, self.sides[..., piece], self.areas[:, piece])

    def by_class(self, piece: slice, classes: int) -> Tensor:
        """(B, n, C) the probability that a location is matched to an object of the class."""
        by_object = self.overlaps(piece).sub_(self.threshold).div_(self.span).clamp_(0, 1)
        index = self.labels[:, None].expand(-1, by_object.shape[2], -1)
        empty = by_object.new_zeros(by_object.shape[0], by_object.shape[2], classes)
        return empty.scatter_reduce_(2, index, by_object.transpose(1, 2), "amax")


def _matches(boxes: Tensor, targets: Targets, threshold: float, pieces: tuple[slice, ...]) -> _Matches:
    sides = boxes.transpose(1, 2).contiguous()
    span = torch.where(targets.valid, 0, torch.inf).to(boxes.dtype)[..., None]
    labels = targets.labels.masked_fill(~targets.valid, 0)
    found = _Matches(sides, box_area(boxes), targets.boxes, labels, threshold, span)
    best = torch.zeros_like(span)
    for piece in pieces:
        best = torch.maximum(best, found.overlaps(piece).amax(dim=2, keepdim=True))
    return _Matches(
        sides, found.areas, targets.boxes, labels, threshold, span + (best - threshold).clamp(min=SMALLEST_SPAN)
    )


def _loss_and_slope(logits: Tensor, matched: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """The loss of every class and its derivative by the logit.

    1 - q = (1 - p) + p * P is a sum of positive terms; where P is 0 its logarithm is that of sigmoid(-logit), which
    is finite for any logit.
    """
    score = logits.sigmoid()
    miss = 1 - score
    kept = score * matched
    rest = miss + kept
    some = matched > torch.finfo(matched.dtype).eps
    cost = torch.where(some, -rest.log(), F.softplus(logits))
    hit = score.sub_(kept)
    power = hit.pow(gamma)
    slope = hit.mul_(torch.where(some, miss / rest, 1)).add_(miss.mul_(cost).mul_(gamma)).mul_(power)
    return power.mul_(cost), slope
