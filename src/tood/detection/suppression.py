"""Non-maximum suppression within each class: of one image, or of all images of a batch without a wait for the host."""

import torch
from torch import Tensor
from torchvision.ops import nms

PAIRS_TOGETHER = 1 << 24
"""Pairs of boxes that are compared at a time: 0.13 GB for each of the three tensors of them."""
ROUNDS = 16
"""More than dense predictions need (docs/performance.md)."""


def class_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """Indices that survive suppression on overlap > ``iou`` within each class, best score first.

    Of equal scores the earlier counts as better. Computed in float64. On a CPU, where the time of one suppression
    grows with the square of its boxes, each class has its own; elsewhere one serves all.
    """
    if len(boxes) == 0:
        return labels
    if boxes.device.type != "cpu":
        return nms_of_classes_apart(boxes, scores, labels, iou)
    by_class = labels.argsort(stable=True)
    counts = labels[by_class].unique_consecutive(return_counts=True)[1].tolist()
    exact, score = boxes.double(), scores.double()
    groups = torch.split(by_class, counts)
    kept = torch.cat([group[nms(exact[group], score[group], iou)] for group in groups]).sort().values
    return kept[scores[kept].argsort(descending=True, stable=True)]


def nms_of_classes_apart(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """:func:`class_nms` in one suppression, with the classes moved apart by more than the extent of all boxes.

    Exact for boxes anywhere, also at negative coordinates, where offsets from the largest coordinate alone let
    classes collide.
    """
    apart = boxes.double()
    extent = apart.max() - apart.min() + 1
    kept: Tensor = nms(apart + (labels * extent)[:, None], scores.double(), iou)
    return kept


def suppress_together(
    boxes: Tensor,
    labels: Tensor,
    valid: Tensor,
    iou: float,
    *,
    rounds: int = ROUNDS,
    pairs_together: int = PAIRS_TOGETHER,
) -> tuple[Tensor, Tensor]:
    """Which of the M boxes (B, M, 4) of each image, best first, survive: (B, M) bool; and for which images that is
    certain: (B,) bool.

    A box survives if no better one of its class that survives overlaps it by more than ``iou``: what a greedy
    suppression finds, which visits one box after the other. Here that is applied to all boxes at once, again and
    again, first as if every ``valid`` (B, M) box survived. After n rounds it is decided for every box that n others in
    a chain decide on, so the result is certain once a round changes nothing. ``rounds``, at least 1, are made in any
    case. Overlaps are computed in float64 as torchvision's ``nms`` does. Reads no value; every shape is known before.
    """
    images = max(1, pairs_together // max(1, boxes.shape[1] ** 2))
    kept, certain = [], []
    for some, label, exists in zip(
        boxes.double().split(images), labels.split(images), valid.split(images), strict=True
    ):
        suppresses = _overlaps_worse(some, label, iou)
        last = survives = exists
        for _ in range(rounds):
            last, survives = survives, exists & ~(suppresses & survives[:, None]).any(dim=2)
        kept.append(survives)
        certain.append((survives == last).all(dim=1))
    return torch.cat(kept), torch.cat(certain)


def _overlaps_worse(boxes: Tensor, labels: Tensor, iou: float) -> Tensor:
    """(B, M, M) bool: whether box j comes before box i, is of its class, and overlaps it by more than ``iou``."""
    x1, y1, x2, y2 = boxes.unbind(2)
    areas = (x2 - x1) * (y2 - y1)
    width = _common(x1, x2)
    intersection = width.mul_(_common(y1, y2))
    union = (areas[:, :, None] + areas[:, None]).sub_(intersection)
    over = intersection.div_(union) > iou
    return over.logical_and_(labels[:, :, None] == labels[:, None]).tril_(-1)


def _common(low: Tensor, high: Tensor) -> Tensor:
    """(B, M, M) lengths that the intervals (B, M) share."""
    start = torch.maximum(low[:, :, None], low[:, None])
    return torch.minimum(high[:, :, None], high[:, None]).sub_(start).clamp_(min=0)
