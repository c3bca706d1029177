"""Loss formulas in log space, elementwise: nothing is summed or divided here."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tood.detection.boxes import aligned_giou


def focal_loss(log_hit: Tensor, log_miss: Tensor, positive: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Focal loss (Lin et al. 2017) of log p, log(1 - p) and a bool mask of one shape, elementwise."""
    hit = -alpha * (gamma * log_miss).exp() * log_hit
    miss = -(1 - alpha) * (gamma * log_hit).exp() * log_miss
    return torch.where(positive, hit, miss)


def quality_focal_loss(log_hit: Tensor, log_miss: Tensor, target: Tensor, *, beta: float) -> Tensor:
    """|y - p|^beta * BCE(p, y) with soft targets y (Li et al. 2020, QFL; TOOD eq. 11), elementwise.

    The gradient also flows through the modulating factor.
    """
    cross_entropy = -(target * log_hit + (1 - target) * log_miss)
    return (target - log_hit.exp()).abs().pow(beta) * cross_entropy


def distribution_focal_loss(bins: Tensor, distance: Tensor) -> Tensor:
    """Cross entropy with the two bins next to a distance (Li et al. 2020, DFL): (..., K), (...) -> (...)."""
    lower = distance.floor().clamp(0, bins.shape[-1] - 2)
    share = distance - lower
    neighbours = torch.stack([lower, lower + 1], dim=-1).long()
    log_probability = F.log_softmax(bins, dim=-1).gather(-1, neighbours)
    return -((1 - share) * log_probability[..., 0] + share * log_probability[..., 1])


def giou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """1 - GIoU: (..., 4), (..., 4) -> (...)."""
    return 1 - aligned_giou(boxes, targets)


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of sigmoid(logits) with soft targets, elementwise."""
    return -(target * F.logsigmoid(logits) + (1 - target) * F.logsigmoid(-logits))


def smooth_l1(difference: Tensor, beta: float) -> Tensor:
    """0.5 d^2 / beta within ``beta`` of zero, |d| - beta / 2 beyond (Girshick 2015), elementwise."""
    size = difference.abs()
    return torch.where(size < beta, 0.5 * size.square() / beta, size - 0.5 * beta)
