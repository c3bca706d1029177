"""Box arithmetic: overlaps, coders, clipping. Boxes are (x1, y1, x2, y2); width is x2 - x1."""

import math

import torch
from torch import Tensor

EPSILON = 1e-6
DeltaStds = tuple[float, float, float, float]
DELTA_STDS: DeltaStds = (0.1, 0.1, 0.2, 0.2)
MAX_LOG_RATIO = math.log(1000 / 16)


def box_area(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...); an inverted box has no area instead of a positive one."""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def _intersection(first: Tensor, second: Tensor) -> Tensor:
    width = torch.minimum(first[..., 2], second[..., 2]) - torch.maximum(first[..., 0], second[..., 0])
    height = torch.minimum(first[..., 3], second[..., 3]) - torch.maximum(first[..., 1], second[..., 1])
    return width.clamp(min=0) * height.clamp(min=0)


def aligned_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of corresponding boxes, with broadcasting: (..., 4), (..., 4) -> (...)."""
    intersection = _intersection(first, second)
    return intersection / (box_area(first) + box_area(second) - intersection).clamp(min=EPSILON)


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of every box with every other: (..., P, 4), (..., Q, 4) -> (..., P, Q)."""
    return aligned_iou(first[..., :, None, :], second[..., None, :, :])


def rows_iou(objects: Tensor, sides: Tensor, areas: Tensor) -> Tensor:
    """IoU of objects (B, G, 4) with boxes given by their sides (B, 4, N) and areas (B, N): (B, G, N).

    :func:`pairwise_iou` on contiguous rows and in place, which is several times faster on a CPU. Without gradient.
    """
    left, top, right, bottom = objects[..., None].unbind(2)
    x1, y1, x2, y2 = sides[:, :, None].unbind(1)
    width = torch.minimum(right, x2).sub_(torch.maximum(left, x1)).clamp_(min=0)
    height = torch.minimum(bottom, y2).sub_(torch.maximum(top, y1)).clamp_(min=0)
    intersection = width.mul_(height)
    union = (box_area(objects)[..., None] + areas[:, None]).sub_(intersection).clamp_(min=EPSILON)
    return intersection.div_(union)


def aligned_giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al. 2019), in [-1, 1]: (..., 4), (..., 4) -> (...)."""
    intersection = _intersection(first, second)
    union = (box_area(first) + box_area(second) - intersection).clamp(min=EPSILON)
    width = torch.maximum(first[..., 2], second[..., 2]) - torch.minimum(first[..., 0], second[..., 0])
    height = torch.maximum(first[..., 3], second[..., 3]) - torch.minimum(first[..., 1], second[..., 1])
    hull = (width.clamp(min=0) * height.clamp(min=0)).clamp(min=EPSILON)
    return intersection / union - (hull - union) / hull


def encode_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances (left, top, right, bottom) from points (..., 2) to the sides of boxes (..., 4)."""
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)


def decode_distances(points: Tensor, distances: Tensor) -> Tensor:
    """The inverse of :func:`encode_distances`."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def inner_margin(points: Tensor, boxes: Tensor) -> Tensor:
    """Distance to the nearest side, negative outside: (..., 2), (..., 4) -> (...)."""
    return encode_distances(points, boxes).amin(dim=-1)


def centerness(points: Tensor, boxes: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) in [0, 1]; 0 outside the box (FCOS eq. 3)."""
    distances = encode_distances(points, boxes)
    horizontal, vertical = distances[..., 0::2], distances[..., 1::2]
    numerator = horizontal.amin(dim=-1).clamp(min=0) * vertical.amin(dim=-1).clamp(min=0)
    denominator = horizontal.amax(dim=-1).clamp(min=EPSILON) * vertical.amax(dim=-1).clamp(min=EPSILON)
    return (numerator / denominator).sqrt()


def decode_deltas(anchors: Tensor, deltas: Tensor, stds: DeltaStds = DELTA_STDS) -> Tensor:
    """Boxes from offsets of centre (in anchor sizes) and log size, each divided by its deviation: (..., 4) each.

    Log sizes are clamped to +-log(1000 / 16).
    """
    anchor_centre, anchor_size = _centre_and_size(anchors)
    shift_x, shift_y, log_width, log_height = (delta * std for delta, std in zip(deltas.unbind(-1), stds, strict=True))
    centre = anchor_centre + torch.stack([shift_x, shift_y], dim=-1) * anchor_size
    log_size = torch.stack([log_width, log_height], dim=-1).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    half = anchor_size * log_size.exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def encode_deltas(anchors: Tensor, boxes: Tensor, stds: DeltaStds = DELTA_STDS) -> Tensor:
    """The inverse of :func:`decode_deltas`; a box without extent counts as one of 1e-6 px."""
    anchor_centre, anchor_size = _centre_and_size(anchors)
    centre, size = _centre_and_size(boxes)
    shift = (centre - anchor_centre) / anchor_size
    log_size = (size.clamp(min=EPSILON) / anchor_size).log()
    deltas = [value / std for value, std in zip((*shift.unbind(-1), *log_size.unbind(-1)), stds, strict=True)]
    return torch.stack(deltas, dim=-1)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def clip_boxes(boxes: Tensor, size: Tensor) -> Tensor:
    """Clamp boxes (..., 4) into [0, w] x [0, h], where ``size`` (..., 2) is (h, w)."""
    limit = torch.cat([size.flip(-1), size.flip(-1)], dim=-1).to(boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limit)
