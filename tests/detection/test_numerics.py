"""Loss and gradient stay finite and useful where numbers are extreme and scenes are odd."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tood.config.method import MethodConfig
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.assigners.center_sampling import CenterSamplingAssigner
from tood.detection.assigners.max_iou import MaxIouAssigner
from tood.detection.assigners.task_aligned import TaskAlignedAssigner
from tood.detection.boxes import aligned_iou
from tood.detection.criteria.base import Criterion, combine
from tood.detection.criteria.free_anchor import BagCriterion
from tood.detection.criteria.matching import match
from tood.detection.detector import build_criterion, build_head
from tood.detection.points import STRIDES, Points, make_points, valid_points
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress, TrainingBatch

PARAMS = Path(__file__).parents[2] / "params/methods"
ALIKE = {"tood_dcn", "thead_atss", "thead_atss_anchor_based", "atss_anchor_free", "fcos_centerness"}
"""Methods that put parts of others together."""
METHODS = sorted({path.stem for path in PARAMS.glob("*.yaml")} - ALIKE)
SIZES = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
OUTPUTS = ("class_logits", "boxes", "alignment_logits", "quality", "deltas", "bins")


def load(name: str) -> MethodConfig:
    content = yaml.safe_load((PARAMS / f"{name}.yaml").read_text())
    return MethodConfig.model_validate({"name": name, **content})


PHASES = [(name, 0) for name in METHODS] + [
    (name, 5) for name in METHODS if load(name).criterion.kind == "task_aligned"
]


WITH_SAMPLES = [(name, epoch) for name, epoch in PHASES if not isinstance(load(name).criterion, BagCriterion)]
"""Methods whose losses need to know which locations are positive."""


def make_head(name: str, classes: int = 3) -> torch.nn.Module:
    torch.manual_seed(2)
    return build_head(load(name).head, num_classes=classes, in_channels=16, width=16, norm_groups=4)


def predict(name: str, *, images: int = 2, classes: int = 3, sizes: list[tuple[int, int]] = SIZES) -> Predictions:
    """A head's outputs as leaves of the graph, with scores around one half."""
    head = make_head(name, classes)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        found = head([torch.randn(images, 16, h, w, generator=draw) for h, w in sizes])
        found = replace(found, class_logits=found.class_logits + 4 + torch.randn(found.class_logits.shape))
    return leaves(found)


def leaves(predictions: Predictions) -> Predictions:
    values = {name: getattr(predictions, name) for name in OUTPUTS}
    return replace(predictions, **{n: v.detach().clone().requires_grad_() for n, v in values.items() if v is not None})


def gradients(predictions: Predictions) -> dict[str, Tensor]:
    values = {name: getattr(predictions, name) for name in OUTPUTS}
    return {name: value.grad for name, value in values.items() if value is not None and value.grad is not None}


def objects(count: int = 3, *, images: int = 2, classes: int = 3, extent: float = 30, inside: float = 30) -> Targets:
    draw = torch.Generator().manual_seed(3)
    corner = torch.rand(images, count, 2, generator=draw) * inside
    size = extent * (0.5 + torch.rand(images, count, 2, generator=draw))
    labels = torch.arange(images * count).reshape(images, count) % classes
    return Targets(torch.cat([corner, corner + size], dim=2), labels, torch.ones(images, count, dtype=torch.bool))


def everywhere(predictions: Predictions) -> Tensor:
    return torch.ones(predictions.boxes.shape[:2], dtype=torch.bool)


def batch(predictions: Predictions, targets: Targets, epoch: int) -> TrainingBatch:
    """At all locations."""
    return TrainingBatch(predictions, targets, everywhere(predictions), at(epoch))


def at(epoch: int) -> Progress:
    return Progress(epoch=epoch, step=epoch * 10, total_steps=120)


def differentiate(losses: dict[str, Tensor]) -> None:
    total = torch.stack(list(losses.values())).sum()
    assert torch.isfinite(total)
    total.backward()


@pytest.mark.parametrize(("name", "epoch"), WITH_SAMPLES)
def test_what_is_most_wrong_still_learns(name: str, epoch: int) -> None:
    """Positives at logit -100 and background at +100: the gradient is no rounding error, and of the right sign."""
    predictions, targets = predict(name), objects()
    criterion, valid = build_criterion(load(name)), everywhere(predictions)
    assignment = criterion.assign(TrainingBatch(predictions, targets, valid, at(epoch)))
    matched = match(assignment, targets)
    classes = F.one_hot(matched.labels, 3).bool() & matched.positive[..., None]
    hidden = classes & (strength(criterion, predictions, targets, assignment) > 0.05)[..., None]
    background = (~assignment.positive & assignment.counted(valid))[..., None].expand_as(hidden)
    assert hidden.any()
    assert background.any()
    wrong = torch.where(classes, -100.0, 100.0)
    alignment = torch.where(assignment.positive, -100.0, 100.0)
    extreme = leaves(
        replace(
            predictions,
            class_logits=wrong,
            alignment_logits=None if predictions.alignment_logits is None else alignment,
            quality=None if predictions.quality is None else alignment,
        )
    )
    differentiate(combine(criterion.losses(TrainingBatch(extreme, targets, valid, at(epoch)), assignment)))
    found = gradients(extreme)
    assert all(value.isfinite().all() for value in found.values())
    assert (found["class_logits"][hidden] < -1e-6).all()
    assert (found["class_logits"][background] > 1e-4).all()
    if "alignment_logits" in found:
        assert (found["alignment_logits"][hidden.any(dim=2)] < -1e-6).all()
        assert (found["alignment_logits"][background[..., 0]] > 1e-4).all()


def strength(criterion: Criterion, predictions: Predictions, targets: Targets, assignment: Assignment) -> Tensor:
    """(B, N) the score that the classification loss asks of positives."""
    if type(criterion).__name__ == "GflCriterion":
        boxes, _ = targets.take(assignment.gt_index)
        return aligned_iou(predictions.boxes.detach(), boxes) * assignment.positive
    return assignment.target


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "epoch"), PHASES)
def test_any_logits_up_to_a_hundred_are_finite(name: str, epoch: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    calm = predict(name)
    logits = ("class_logits", "alignment_logits", "quality", "bins")
    spread = {key: value for key in logits if (value := getattr(calm, key)) is not None}
    wild = {key: 200 * torch.rand(value.shape, generator=draw) - 100 for key, value in spread.items()}
    predictions = leaves(replace(calm, **wild))
    differentiate(combine(build_criterion(load(name))(batch(predictions, objects(), epoch))))
    found = gradients(predictions)
    assert all(value.isfinite().all() for value in found.values())
    assert found["class_logits"].abs().max() > 1e-4


@pytest.mark.parametrize(("name", "epoch"), WITH_SAMPLES)
def test_inverted_and_empty_boxes_cost_no_more_than_a_miss(name: str, epoch: int) -> None:
    calm, targets = predict(name), objects()
    criterion, valid = build_criterion(load(name)), everywhere(calm)
    with torch.no_grad():
        assignment = criterion.assign(TrainingBatch(calm, targets, valid, at(epoch)))
    assert assignment.positive.any()
    for boxes in (calm.boxes.detach()[..., [2, 3, 0, 1]], calm.boxes.detach()[..., [0, 1, 0, 1]]):
        predictions = leaves(replace(calm, boxes=boxes))
        terms = criterion.losses(TrainingBatch(predictions, targets, valid, at(epoch)), assignment)
        losses = combine(terms)
        box = next(term for term in terms if term.name == "loss_bbox")
        assert (box.per_location >= 0).all()
        if "deltas" not in criterion.needs:
            assert (box.per_location <= 2 * load(name).criterion.box_weight + 1e-5).all()
        differentiate(losses)
        assert all(value.isfinite().all() for value in gradients(predictions).values())


Scenes = dict[str, tuple[dict[str, Any], Targets]]
SCENES: Scenes = {
    "one class": ({"classes": 1}, objects(classes=1)),
    "smaller than a cell": ({}, objects(6, extent=2)),
    "no extent": ({}, objects(2, extent=0)),
    "beyond the image": ({}, objects(inside=300)),
    "500 objects": ({"images": 1}, objects(500, images=1, inside=80)),
    "one image without objects": (
        {},
        replace(objects(), valid=torch.tensor([[False, False, False], [True, True, True]])),
    ),
    "only empty slots": ({}, replace(objects(), valid=torch.zeros(2, 3, dtype=torch.bool))),
    "no slots": ({}, objects(0)),
    "fewer locations than topk": ({"sizes": [(2, 2), (1, 1), (1, 1), (1, 1), (1, 1)]}, objects(extent=12, inside=6)),
}


@pytest.mark.parametrize("scene", list(SCENES))
@pytest.mark.parametrize(("name", "epoch"), PHASES)
def test_odd_scenes(name: str, epoch: int, scene: str) -> None:
    shape, targets = SCENES[scene]
    predictions = predict(name, **shape)
    losses = combine(build_criterion(load(name))(batch(predictions, targets, epoch)))
    assert all(loss >= 0 for loss in losses.values())
    assert sum(losses.values()) > 0
    differentiate(losses)
    found = gradients(predictions)
    assert all(value.isfinite().all() for value in found.values())
    assert found["class_logits"].any()
    if scene in ("only empty slots", "no slots"):
        assert losses.get("loss_bbox", losses.get("positive_bag_loss")) == 0


class _Largest(TorchDispatchMode):
    """Remembers the elements of the largest tensor that an operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, Tensor):
                # What a view shows may be more than what it holds.
                self.elements = max(self.elements, value.untyped_storage().nbytes() // value.element_size())
        return out


Assign = Callable[..., Assignment]


def crowd() -> tuple[Points, Targets, Tensor]:
    """500 objects on 2,728 locations, in two images of which the second ends early."""
    sizes = tuple((-(-256 // stride), -(-512 // stride)) for stride in STRIDES)
    points = make_points(sizes, STRIDES, torch.device("cpu"), torch.float32)
    valid = valid_points(points, torch.tensor([[256, 512], [200, 300]]))
    return points, objects(500, images=2, extent=40, inside=250), valid


def predicted(points: Points, classes: int = 3) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(5)
    reach = points.strides[:, None] * (0.5 + 3 * torch.rand(2, len(points.strides), 4, generator=draw))
    boxes = torch.cat([points.centres - reach[..., :2], points.centres + reach[..., 2:]], dim=2)
    return torch.rand(2, len(points.strides), classes, generator=draw), boxes


def _tal(points: Points, targets: Targets, valid: Tensor, **bound: int) -> Assignment:
    scores, boxes = predicted(points)
    rule = TaskAlignedAssigner(topk=13, alpha=1.0, beta=6.0, conflict="min_area")
    return rule.assign_predictions(scores, boxes, points, targets, valid, **bound)


def _max_iou(points: Points, targets: Targets, valid: Tensor, **bound: int) -> Assignment:
    return MaxIouAssigner(positive=0.5, negative=0.4).assign_points(points, targets, valid, **bound)


def _center_sampling(points: Points, targets: Targets, valid: Tensor, **bound: int) -> Assignment:
    return CenterSamplingAssigner(radius=1.5).assign_points(points, targets, valid, **bound)


@pytest.mark.parametrize("assign", [_tal, _max_iou, _center_sampling])
def test_pieces_bound_memory_and_change_nothing(assign: Assign) -> None:
    points, targets, valid = crowd()
    whole = assign(points, targets, valid, dense_elements=1 << 30)
    assert len(whole.gt_index[whole.positive].unique()) > 50
    for elements in (1, 64 * valid.numel()):
        with _Largest() as largest:
            pieces = assign(points, targets, valid, dense_elements=elements)
        # Coordinates come in fours; the lists of candidates do not depend on the pieces.
        assert largest.elements <= 4 * max(elements, 4 * valid.numel())
        for name in ("gt_index", "iou", "metric", "target", "ignored"):
            ours, expected = getattr(pieces, name), getattr(whole, name)
            assert (ours is None) == (expected is None)
            assert ours is None or torch.equal(ours, expected), name


def test_atss_holds_nothing_for_every_object_at_every_location() -> None:
    points, targets, valid = crowd()
    with _Largest() as largest:
        assert AtssAssigner(topk=9).assign_points(points, targets, valid).positive.any()
    assert largest.elements < targets.valid.numel() * len(points.centres) / 4


@pytest.mark.parametrize(("name", "epoch"), PHASES)
def test_float64_stays_float64_and_bf16_rises_to_float32(name: str, epoch: int) -> None:
    """Autocast concerns convolutions alone: head mathematics and losses are in float32, or float64 if given it."""
    criterion = build_criterion(load(name))
    draw = torch.Generator().manual_seed(6)
    maps = [torch.randn(2, 16, h, w, generator=draw) for h, w in SIZES]
    for dtype in (torch.float64, torch.float32):
        head = make_head(name).to(dtype)
        targets = objects()
        targets = replace(targets, boxes=targets.boxes.to(dtype))
        results = []
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                predictions = head([level.to(dtype) for level in maps])
                terms = criterion(batch(predictions, targets, epoch))
            values = [getattr(predictions, output) for output in OUTPUTS] + [term.per_location for term in terms]
            assert {value.dtype for value in values if value is not None} == {dtype}
            assert {term.normaliser.dtype for term in terms} == {dtype}
            results.append(combine(terms))
        if dtype == torch.float64:
            assert {n: v.item() for n, v in results[0].items()} == {n: v.item() for n, v in results[1].items()}
