"""Random images, objects and predictions for benchmarks, reproducible by seed."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tood.data.batch import Batch
from tood.data.network_input import PAD_MULTIPLE
from tood.detection.points import STRIDES, Points, make_points
from tood.detection.predictions import Predictions

CLASSES = 80
SMALLEST, LARGEST = 16, 512
"""Sides of objects in pixels, drawn evenly on a logarithmic scale."""


@dataclass(frozen=True)
class SceneSize:
    """Images of ``height`` x ``width`` pixels before padding, with ``objects`` in each."""

    height: int
    width: int
    images: int
    objects: int

    @property
    def padded(self) -> tuple[int, int]:
        return _up(self.height), _up(self.width)

    def sizes(self) -> Tensor:
        """(B, 2) height and width."""
        return torch.tensor([[self.height, self.width]]).repeat(self.images, 1)


def _up(side: int) -> int:
    return math.ceil(side / PAD_MULTIPLE) * PAD_MULTIPLE


def make_batch(size: SceneSize, device: torch.device, seed: int) -> Batch:
    """Noise as images, and objects anywhere in them."""
    draw = torch.Generator().manual_seed(seed)
    shape = (size.images, size.objects)
    limit = torch.tensor([size.width, size.height], dtype=torch.float32)
    centres = torch.rand(*shape, 2, generator=draw) * limit
    halves = SMALLEST / 2 * (LARGEST / SMALLEST) ** torch.rand(*shape, 2, generator=draw)
    corners = [torch.minimum((centres + side * halves).clamp(min=0), limit) for side in (-1, 1)]
    batch = Batch(
        images=torch.randn(size.images, 3, *size.padded, generator=draw),
        sizes=size.sizes(),
        scales=torch.ones(size.images, 2),
        original_sizes=size.sizes(),
        image_ids=torch.arange(size.images),
        boxes=torch.cat(corners, dim=2),
        labels=torch.randint(CLASSES, shape, generator=draw),
        valid=torch.ones(shape, dtype=torch.bool),
        group=torch.zeros(size.images, dtype=torch.int64),
    )
    return batch.to(device)


def scene_points(size: SceneSize, device: torch.device) -> Points:
    """Locations of P3 to P7 for padded images."""
    height, width = size.padded
    levels = tuple((math.ceil(height / stride), math.ceil(width / stride)) for stride in STRIDES)
    return make_points(levels, STRIDES, device, torch.float32)


def predicted_boxes(points: Points, images: int, seed: int) -> Tensor:
    """(B, N, 4) boxes around their locations, 1 to 9 strides wide and high."""
    draw = torch.Generator().manual_seed(seed)
    share = torch.rand(images, len(points.strides), 4, generator=draw).to(points.strides.device)
    reach = points.strides[:, None] * (0.5 + 4 * share)
    return torch.cat([points.centres - reach[..., :2], points.centres + reach[..., 2:]], dim=2)


def predicted_scores(points: Points, images: int, seed: int) -> Tensor:
    """(B, N, C) probabilities of all sizes."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(images, len(points.strides), CLASSES, generator=draw).pow(4).to(points.strides.device)


def sparse_predictions(
    size: SceneSize, device: torch.device, *, share: float, threshold: float, seed: int
) -> Predictions:
    """Predictions with class and alignment logits; the fraction ``share`` of their scores is above ``threshold``."""
    points = scene_points(size, device)
    draw = torch.Generator().manual_seed(seed)
    shape = (size.images, len(points.strides), CLASSES)
    low = threshold * torch.rand(shape, generator=draw)
    high = threshold + (0.95 - threshold) * torch.rand(shape, generator=draw).pow(3)
    scores = torch.where(torch.rand(shape, generator=draw) < share, high, low)
    # score^2 = sigmoid(class) * sigmoid(alignment), and neither factor may be 1
    alignment = 0.92 + 0.07 * torch.rand(*shape[:2], generator=draw)
    classes = (scores.square() / alignment[..., None]).clamp(1e-9, 1 - 1e-6)
    return Predictions(
        points=points,
        class_logits=classes.logit().to(device),
        boxes=predicted_boxes(points, size.images, seed),
        alignment_logits=alignment.logit().to(device),
    )
