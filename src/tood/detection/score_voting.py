"""Score voting: detections moved to the mean of what was predicted around them (Kim & Lee 2020, "PAA", section 3)."""

import torch
from torch import Tensor

from tood.detection.assigners.assignment import DENSE_ELEMENTS
from tood.detection.boxes import pairwise_iou

LEAST_IOU = 0.01
"""Candidates that overlap a detection by no more have no vote."""


def vote_boxes(
    boxes: Tensor,
    labels: Tensor,
    candidates: Tensor,
    candidate_labels: Tensor,
    candidate_scores: Tensor,
    *,
    sigma: float,
    dense_elements: int = DENSE_ELEMENTS,
) -> Tensor:
    """Boxes (..., D, 4) as means of the candidates (..., K, 4) of their class.

    These are weighted by score * exp(-(1 - IoU)^2 / sigma). A detection for which nothing votes, like a box without
    area, which overlaps nothing (not even itself), stays where it is. Computed in float64, for as many detections at
    once as ``dense_elements`` pairs allow.
    """
    exact, score = candidates.double(), candidate_scores.double()
    rows = max(1, dense_elements // max(1, candidate_labels.numel()))
    voted = []
    for some, label in zip(boxes.double().split(rows, dim=-2), labels.split(rows, dim=-1), strict=True):
        iou = pairwise_iou(some, exact)
        votes = (iou > LEAST_IOU) & (label[..., None] == candidate_labels[..., None, :])
        weight = torch.where(votes, score[..., None, :] * (-(1 - iou).square() / sigma).exp(), 0)
        total = weight.sum(dim=-1, keepdim=True)
        mean = weight @ exact / total.clamp(min=torch.finfo(total.dtype).tiny)
        voted.append(torch.where(total > 0, mean, some))
    return torch.cat(voted, dim=-2).to(boxes.dtype)
