"""Adaptive training sample selection (Zhang et al. 2020, algorithm 1)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tood.detection.assigners.assignment import (
    CENTRE_MARGIN,
    DENSE_ELEMENTS,
    Assignment,
    chunk_length,
    prior_assignment,
    settle_conflicts,
)
from tood.detection.boxes import aligned_iou, inner_margin
from tood.detection.points import Points
from tood.detection.targets import Targets


@dataclass(frozen=True, eq=False)
class AtssCandidates:
    """Every object's nearest anchors; M of them, all levels together."""

    locations: Tensor
    """(B, G, M) int64."""
    nearest: Tensor
    """(B, G, M) bool, false where a level has fewer valid locations than asked for."""
    iou: Tensor
    """(B, G, M) overlap of anchor and object."""
    threshold: Tensor
    """(B, G) mean + standard deviation (n - 1) of the overlaps; inf with fewer than two candidates."""
    accepted: Tensor
    """(B, G, M) bool: overlap reaches the threshold and the centre lies inside the object."""


@torch.no_grad()
def assign_atss(
    points: Points, targets: Targets, valid: Tensor, *, topk: int, dense_elements: int = DENSE_ELEMENTS
) -> Assignment:
    """Assign by anchor overlap; a location wanted by several objects goes to the largest overlap.

    ``valid`` (B, N) marks the locations that take part. Memory is bounded by ``dense_elements``.
    """
    targets = targets.with_a_slot()
    candidates = atss_candidates(points, targets, valid, topk=topk, dense_elements=dense_elements)
    gt_index = settle_conflicts(candidates.locations, candidates.accepted, -candidates.iou, points.centres.shape[0])
    return prior_assignment(points, targets, gt_index)


@torch.no_grad()
def atss_candidates(
    points: Points, targets: Targets, valid: Tensor, *, topk: int, dense_elements: int = DENSE_ELEMENTS
) -> AtssCandidates:
    """Steps 1 to 5 of the algorithm: per level the ``topk`` nearest centres, then the adaptive threshold."""
    step = chunk_length(valid.shape[0], valid.shape[1], dense_elements)
    parts = [_nearest(points, boxes, valid, topk) for boxes in torch.split(targets.boxes, step, dim=1)]
    locations = torch.cat([part[0] for part in parts], dim=1)
    nearest = torch.cat([part[1] for part in parts], dim=1) & targets.valid[..., None]
    boxes = targets.boxes[:, :, None]
    iou = aligned_iou(points.anchors.to(boxes.dtype)[locations], boxes) * nearest
    count = nearest.sum(dim=-1)
    mean = iou.sum(dim=-1) / count.clamp(min=1)
    deviation = ((iou - mean[..., None]).square() * nearest).sum(dim=-1) / (count - 1).clamp(min=1)
    threshold = torch.where(count > 1, mean + deviation.sqrt(), torch.inf)
    inside = inner_margin(points.centres.to(boxes.dtype)[locations], boxes) > CENTRE_MARGIN
    accepted = nearest & inside & (iou >= threshold[..., None])
    return AtssCandidates(locations, nearest, iou, threshold, accepted)


def _nearest(points: Points, boxes: Tensor, valid: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Nearest centres of objects (B, g, 4): locations (B, g, M) and whether each is a valid one."""
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    grid = points.centres.to(boxes.dtype)
    distance = (centres[..., :1] - grid[:, 0]).square() + (centres[..., 1:] - grid[:, 1]).square()
    distance = distance.masked_fill(~valid[:, None], torch.inf)
    locations, nearest, start = [], [], 0
    for level in points.split(distance, dim=2):
        count = level.shape[2]
        values, indices = level.topk(min(topk, count), dim=2, largest=False)
        locations.append(indices + start)
        nearest.append(values < torch.inf)
        start += count
    return torch.cat(locations, dim=2), torch.cat(nearest, dim=2)
