"""Anchors, predictions and objects for the criteria that learn from bags."""

from dataclasses import replace

import torch
from torch import Tensor

from tood.detection.boxes import DELTA_STDS, box_area, decode_deltas
from tood.detection.criteria.base import Criterion, LossTerm
from tood.detection.points import AnchorShapes, Points, make_points
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress, TrainingBatch

START = Progress(epoch=0, step=0, total_steps=120)


def pyramid(sizes: tuple[tuple[int, int], ...] = ((4, 6), (2, 3)), dtype: torch.dtype = torch.float64) -> Points:
    """Six anchors a location, the smallest of two strides."""
    strides = (8, 16, 32, 64, 128)[: len(sizes)]
    return make_points(sizes, strides, torch.device("cpu"), dtype, AnchorShapes(2.0, 2, (0.5, 1.0, 2.0)))


def predict(points: Points, logits: Tensor, deltas: Tensor) -> Predictions:
    """Predictions whose logits (B, N, C) and deltas (B, N, 4) are leaves of the graph."""
    logits, deltas = logits.detach().requires_grad_(), deltas.detach().requires_grad_()
    boxes = decode_deltas(points.anchors, deltas)
    return Predictions(points, logits, boxes, deltas=deltas, delta_stds=DELTA_STDS)


def scene(
    seed: int = 0,
    *,
    images: int = 2,
    objects: int = 4,
    classes: int = 3,
    points: Points | None = None,
    progress: Progress = START,
) -> TrainingBatch:
    """Objects near anchors and boxes near them, so that some are matched; the last slot of odd images is empty."""
    draw = torch.Generator().manual_seed(seed)
    points = points or pyramid()
    count, dtype = len(points.anchors), points.anchors.dtype

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    near = torch.randint(count, (images, objects), generator=draw)
    anchors = points.anchors[near]
    side = box_area(anchors).sqrt()[..., None]
    boxes = anchors + 0.15 * side * normal(images, objects, 4)
    filled = torch.ones(images, objects, dtype=torch.bool)
    filled[1::2, -1:] = False
    labels = torch.randint(classes, (images, objects), generator=draw)
    predictions = predict(points, 2 * normal(images, count, classes), normal(images, count, 4))
    valid = torch.ones(images, count, dtype=torch.bool)
    return TrainingBatch(predictions, Targets(boxes, labels, filled), valid, progress)


def with_targets(batch: TrainingBatch, boxes: Tensor, labels: Tensor, valid: Tensor) -> TrainingBatch:
    """The same predictions, as new leaves, of other objects."""
    assert batch.predictions.deltas is not None
    predictions = predict(batch.predictions.points, batch.predictions.class_logits, batch.predictions.deltas)
    return replace(batch, predictions=predictions, targets=Targets(boxes, labels, valid))


def image(batch: TrainingBatch, index: int) -> TrainingBatch:
    """One image alone, with new leaves."""
    one, old = slice(index, index + 1), batch.predictions
    assert old.deltas is not None
    predictions = predict(old.points, old.class_logits[one], old.deltas[one])
    t = batch.targets
    targets = Targets(t.boxes[one], t.labels[one], t.valid[one])
    return TrainingBatch(predictions, targets, batch.valid[one], batch.progress)


def sums(terms: list[LossTerm]) -> dict[str, Tensor]:
    """Terms that are not yet divided."""
    return {term.name: term.per_location.sum() for term in terms}


def gradients(criterion: Criterion, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
    """Of the sum of all terms by logits and deltas."""
    assert batch.predictions.deltas is not None
    total = torch.stack(list(sums(criterion(batch)).values())).sum()
    leaves = (batch.predictions.class_logits, batch.predictions.deltas)
    by_logits, by_deltas = torch.autograd.grad(total, leaves)
    return by_logits, by_deltas
