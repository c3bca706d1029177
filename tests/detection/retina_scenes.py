"""Nine anchors a location, predictions and objects for the criteria on RetinaNet."""

from dataclasses import replace

import torch
from torch import Tensor

from tood.detection.boxes import decode_deltas
from tood.detection.criteria.base import Criterion, combine, divisors
from tood.detection.points import STRIDES, AnchorShapes, Points, make_points, valid_points
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress, TrainingBatch

STDS = (1.0, 1.0, 1.0, 1.0)
SIZES = ((8, 12), (4, 6), (2, 3), (1, 2), (1, 1))


def grid(dtype: torch.dtype = torch.float64) -> Points:
    return make_points(SIZES, STRIDES, torch.device("cpu"), dtype, AnchorShapes(4.0, 3, (0.5, 1.0, 2.0)))


def scene(
    seed: int = 0, *, images: int = 2, objects: int = 4, classes: int = 3, dtype: torch.dtype = torch.float64
) -> TrainingBatch:
    """Nine anchors a location on 64 x 96 px, the second image half as high; its last object slot is empty."""
    draw = torch.Generator().manual_seed(seed)
    points = grid(dtype)
    shape = (images, len(points.centres))
    corner = torch.rand(images, objects, 2, generator=draw) * torch.tensor([60.0, 25.0])
    extent = 14 + torch.rand(images, objects, 2, generator=draw) * 40
    filled = torch.ones(images, objects, dtype=torch.bool)
    filled[1::2, -1:] = False
    labels = torch.randint(classes, (images, objects), generator=draw)
    targets = Targets(torch.cat([corner, corner + extent], dim=2).to(dtype), labels, filled)
    logits = torch.randn(*shape, classes, generator=draw).to(dtype)
    deltas = (0.2 * torch.randn(*shape, 4, generator=draw)).to(dtype)
    sizes = torch.tensor([[64, 96], [32, 96]])[torch.arange(images) % 2]
    return batch_of(predictions_of(points, logits, deltas), targets, valid_points(points, sizes))


def predictions_of(points: Points, logits: Tensor, deltas: Tensor) -> Predictions:
    logits, deltas = logits.clone().requires_grad_(), deltas.clone().requires_grad_()
    return Predictions(points, logits, decode_deltas(points.anchors, deltas, STDS), deltas=deltas, delta_stds=STDS)


def batch_of(predictions: Predictions, targets: Targets, valid: Tensor) -> TrainingBatch:
    return TrainingBatch(predictions, targets, valid, Progress(epoch=0, step=0, total_steps=1))


def with_predictions(batch: TrainingBatch, logits: Tensor | None = None, deltas: Tensor | None = None) -> TrainingBatch:
    p = batch.predictions
    assert p.deltas is not None
    logits = p.class_logits.detach() if logits is None else logits
    return replace(batch, predictions=predictions_of(p.points, logits, p.deltas.detach() if deltas is None else deltas))


def losses_of(criterion: Criterion, batch: TrainingBatch) -> dict[str, Tensor]:
    terms = criterion(batch)
    return combine(terms, divisors(terms))


def gradients(batch: TrainingBatch, losses: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    assert batch.predictions.deltas is not None
    total = torch.stack(list(losses.values())).sum()
    outputs = [batch.predictions.class_logits, batch.predictions.deltas]
    logits, deltas = torch.autograd.grad(total, outputs, materialize_grads=True)
    return logits, deltas


NOTHING = {
    "no slots": Targets(
        torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.bool)
    ),
    "empty slots": Targets(torch.ones(2, 2, 4), torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 2).bool()),
}
