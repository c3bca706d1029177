"""Decoding of a head's regression outputs (distances, deltas or bins) to boxes."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tood.detection.boxes import DELTA_STDS, DeltaStds, decode_deltas, decode_distances
from tood.detection.points import Points

BoxKind = Literal["distance", "delta", "bins"]

MAX_LOG_DISTANCE = 16.0
"""Far above any image; keeps areas and gradients finite whatever a diverging layer returns."""


@dataclass(frozen=True, eq=False)
class DecodedBoxes:
    boxes: Tensor
    """(B, N, 4) pixels."""
    deltas: Tensor | None = None
    """(B, N, 4)"""
    bins: Tensor | None = None
    """(B, N, 4, K)"""


def decode_boxes(
    kind: BoxKind, raw: Tensor, scale: Tensor | None, points: Points, delta_stds: DeltaStds = DELTA_STDS
) -> DecodedBoxes:
    """Decode regression outputs (B, N, 4 or 4 K) with the level scale (N, 1), where there is one.

    ``distance``: scale * exp(raw) strides to the four sides. ``delta``: offsets from the anchor.
    ``bins``: for each side the expectation over K bins of one stride (GFL's integral).
    """
    stride = points.strides[:, None]
    if kind == "distance":
        distances = raw.clamp(max=MAX_LOG_DISTANCE).exp()
        distances = distances if scale is None else distances * scale
        return DecodedBoxes(decode_distances(points.centres, distances * stride))
    scaled = raw if scale is None else raw * scale
    if kind == "delta":
        return DecodedBoxes(decode_deltas(points.anchors, scaled, delta_stds), deltas=scaled)
    bins = torch.unflatten(scaled, 2, (4, -1))
    values = torch.arange(bins.shape[3], device=bins.device, dtype=bins.dtype)
    distances = bins.softmax(dim=3) @ values
    return DecodedBoxes(decode_distances(points.centres, distances * stride), bins=bins)
