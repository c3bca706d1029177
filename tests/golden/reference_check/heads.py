"""Single heads: outputs, assignment, losses, gradients and detections on recorded features."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reference_check.folder import Arrays, below, numbered, read_arrays, read_json, tensor
from reference_check.outputs import compare_outputs
from reference_check.rounding import room_for_rounding
from reference_check.rows import EXACT, Report, Tolerance, UnsupportedError
from reference_check.scene import compare_detections, meta_tensor, targets_of
from reference_check.toolbox import Recorded, build_recorded
from tood.detection.assigners.assignment import Assignment
from tood.detection.boxes import DeltaStds, encode_deltas
from tood.detection.criteria.base import Criterion, LossTerm, divisors
from tood.detection.criteria.paa import Paa
from tood.detection.points import Points, valid_points
from tood.detection.postprocess import postprocess
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress, TrainingBatch
from tood.weights.mmdet.parameter_keys import translate, translate_key

LOSS32 = Tolerance(relative=1e-4)
LOSS64 = Tolerance(relative=1e-9)
NORM64 = Tolerance(relative=1e-9, own_peak=1e-13)
"""Norms that vanish by symmetry are rounding noise of the others."""
GRADIENT = Tolerance(own_peak=2e-3, common_peak=2e-4)
NORM32 = Tolerance(relative=2e-3, own_peak=2e-4)
TARGET = Tolerance(relative=1e-3)
BOX_TARGET = Tolerance(relative=1e-6, absolute=1e-6)


@dataclass(frozen=True)
class Outcome:
    """One training pass through a head (or a whole detector)."""

    terms: list[LossTerm]
    assignment: Assignment
    valid: Tensor
    anchors: Tensor
    per_level: dict[str, Tensor]
    """Loss by name and level, with gradient."""
    first_stage: Assignment | None = None
    """PAA's candidates."""

    @property
    def total(self) -> Tensor:
        return torch.stack([losses.sum() for losses in self.per_level.values()]).sum()


def check_head(folder: Path, stem: str, report: Report) -> None:
    reference = read_json(folder / f"{stem}.json")
    for name, instance in reference["instances"].items():
        report.at(f"{name}: ")
        recorded = build_recorded(reference["kind"], reference["head_config"])
        weights = read_arrays(folder / instance["files"]["weights"])
        load_head(recorded, weights, report)
        arrays = read_arrays(folder / instance["files"]["arrays"])
        _check_instance(reference, instance, recorded, arrays, report)


def load_head(recorded: Recorded, weights: Arrays, report: Report) -> None:
    state = translate({key: tensor(value) for key, value in weights.items()})
    own = recorded.head.state_dict()
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in own.items()}:
        different = sorted(set(state) ^ set(own)) or [k for k in own if own[k].shape != state[k].shape]
        raise UnsupportedError(f"weights do not fit the head: {', '.join(different[:5])}")
    recorded.head.load_state_dict(state)
    report.count("weights that do not fit", 0, len(state))


def _check_instance(
    reference: dict[str, Any], instance: dict[str, Any], recorded: Recorded, arrays: Arrays, report: Report
) -> None:
    metas = instance["img_metas"]
    names = [str(translate_key(key)) for key in reference["parameter_order"]]
    features = [tensor(feature) for feature in numbered(arrays, "feat")]
    with torch.no_grad():
        predictions = recorded.head(features)

    def outputs(report: Report, head: nn.Module, features: Sequence[Tensor]) -> None:
        compare_outputs(report, head(features), arrays)

    with report.with_room(lambda: room_for_rounding(outputs, recorded.head, features)):
        compare_outputs(report, predictions, arrays)
    sizes = meta_tensor(metas, "img_shape")
    for prefix, scales in (("det", None), ("det_rescaled", meta_tensor(metas, "scale_factor"))):
        found = postprocess(predictions, sizes, scales, recorded.inference)
        compare_detections(report, found, arrays, prefix, box_tolerance=1e-2, score_tolerance=1e-4)
    for epoch in sorted(int(key) for key in instance["epochs"]):
        prefix = f"e{epoch}_" if recorded.phases else ""
        phase = below(arrays, prefix)
        for dtype in (torch.float32, torch.float64):
            _check_training(report, recorded, arrays, phase, metas, epoch, dtype, names, prefix)
        if "min_area_total" in phase:
            _check_min_area(report, recorded, arrays, phase, metas, epoch, prefix)


def _check_training(
    report: Report,
    recorded: Recorded,
    arrays: Arrays,
    phase: Arrays,
    metas: Sequence[dict[str, Any]],
    epoch: int,
    dtype: torch.dtype,
    names: Sequence[str],
    prefix: str,
) -> None:
    """Losses and gradients of one epoch's phase in one precision; in float32 also what was assigned."""
    head = recorded.head.to(dtype)
    head.zero_grad(set_to_none=True)
    features = [tensor(feature, dtype).requires_grad_() for feature in numbered(arrays, "feat")]
    targets = targets_of(arrays, dtype)
    outcome = train_once(head(features), targets, recorded.criterion, metas, epoch)
    single = dtype == torch.float32
    if single:
        compare_assignment(
            report,
            outcome,
            targets,
            num_classes=recorded.num_classes,
            delta_stds=recorded.delta_stds,
            phase=phase,
            prefix=prefix,
        )
    compare_losses(report, outcome, phase, prefix, dtype)
    outcome.total.backward()
    if not single:
        report.compare(f"{prefix}f64_gradnorm", gradient_norms(head, names), phase["f64_gradnorm"], NORM64)
        return

    def gradients(report: Report, head: nn.Module, features: Sequence[Tensor]) -> None:
        targets = targets_of(arrays, features[0].dtype)
        train_once(head(features), targets, recorded.criterion, metas, epoch).total.backward()
        _compare_gradients(report, head, features, phase, names, prefix)

    with report.with_room(lambda: room_for_rounding(gradients, head, features)):
        _compare_gradients(report, head, features, phase, names, prefix)


def _compare_gradients(
    report: Report, head: nn.Module, features: Sequence[Tensor], phase: Arrays, names: Sequence[str], prefix: str
) -> None:
    report.compare(f"{prefix}gradnorm", gradient_norms(head, names), phase["gradnorm"], NORM32)
    expected = numbered(phase, "grad_feat")
    own = [feature.grad if feature.grad is not None else torch.zeros_like(feature) for feature in features]
    report.compare_all(f"{prefix}grad_feat", own, expected, GRADIENT)
    full = below(phase, "grad_w/")
    weights = gradients_by_name(head)
    own = [weights[str(translate_key(name))] for name in full]
    report.compare_all(f"{prefix}grad_w", own, list(full.values()), GRADIENT)


def _check_min_area(
    report: Report,
    recorded: Recorded,
    arrays: Arrays,
    phase: Arrays,
    metas: Sequence[dict[str, Any]],
    epoch: int,
    prefix: str,
) -> None:
    assert recorded.min_area_criterion is not None
    head = recorded.head.float()
    targets = targets_of(arrays, torch.float32)
    with torch.no_grad():
        predictions = head([tensor(feature) for feature in numbered(arrays, "feat")])
        outcome = train_once(predictions, targets, recorded.min_area_criterion, metas, epoch)
    expected = below(phase, "min_area_")
    prefix = f"{prefix}min_area_"
    compare_assignment(
        report,
        outcome,
        targets,
        num_classes=recorded.num_classes,
        delta_stds=recorded.delta_stds,
        phase=expected,
        prefix=prefix,
    )
    compare_losses(report, outcome, expected, prefix, torch.float32)


def train_once(
    predictions: Predictions,
    targets: Targets,
    criterion: Criterion,
    metas: Sequence[dict[str, Any]],
    epoch: int,
) -> Outcome:
    """Assign and compute the losses, kept apart by level."""
    progress = Progress(epoch=epoch, step=epoch, total_steps=epoch + 1)
    valid = valid_points(predictions.points, meta_tensor(metas, "pad_shape"))
    batch = TrainingBatch(predictions, targets, valid, progress)
    assignment = criterion.assign(batch)
    terms = criterion(batch)
    divide_by = divisors(terms)
    per_level = {
        term.name: _by_level(term, predictions.points) / (divide_by[term.name] + term.epsilon) for term in terms
    }
    first = criterion.first_stage(batch) if isinstance(criterion, Paa) else None
    return Outcome(terms, assignment, valid, predictions.points.anchors, per_level, first)


def _by_level(term: LossTerm, points: Points) -> Tensor:
    """Sums of a term (L,); (1,) where it does not belong to locations."""
    if term.per_location.shape[1] != len(points.centres):
        return term.per_location.sum()[None]
    return torch.stack([part.sum() for part in points.split(term.per_location)])


def compare_losses(report: Report, outcome: Outcome, phase: Arrays, prefix: str, dtype: torch.dtype) -> None:
    single = dtype == torch.float32
    kind, tolerance = ("", LOSS32) if single else ("f64_", LOSS64)
    for name, losses in outcome.per_level.items():
        expected = phase[f"{kind}{name}"]
        if len(expected) == 1:  # recorded as a total over levels
            losses = losses.sum()[None]
        report.compare(f"{prefix}{kind}{name}", losses, expected, tolerance)
    if f"{kind}total" in phase:
        report.compare(f"{prefix}{kind}total", outcome.total, phase[f"{kind}total"], tolerance)
    if "avg_factor" in phase and single:
        report.compare("avg_factor", outcome.terms[0].normaliser.sum()[None], phase["avg_factor"], EXACT)


def compare_assignment(
    report: Report,
    outcome: Outcome,
    targets: Targets,
    *,
    num_classes: int,
    delta_stds: DeltaStds | None,
    phase: Arrays,
    prefix: str,
) -> None:
    """Classes, weights, boxes and soft targets that locations were given, as far as recorded.

    Boxes are compared as deltas where ``delta_stds`` are given, in pixels otherwise.
    """
    if "labels" not in phase:
        return
    assignment = outcome.assignment
    boxes, labels = targets.with_a_slot().take(assignment.gt_index)
    labels = torch.where(assignment.positive, labels, num_classes)
    report.compare(f"{prefix}labels", labels, phase["labels"], EXACT)
    encoded = assignment.positive
    if "labels_first_stage" in phase:
        assert outcome.first_stage is not None
        encoded = outcome.first_stage.positive  # whose box targets outlive the second stage
        boxes, labels = targets.with_a_slot().take(outcome.first_stage.gt_index)
        labels = torch.where(encoded, labels, num_classes)
        report.compare(f"{prefix}labels_first_stage", labels, phase["labels_first_stage"], EXACT)
    if "label_weights" in phase:
        counted = assignment.counted(outcome.valid)
        report.compare(f"{prefix}label_weights", counted, phase["label_weights"], EXACT)
    if "bbox_targets" in phase:
        if delta_stds is not None:
            boxes = encode_deltas(outcome.anchors, boxes, delta_stds)
        boxes = torch.where(encoded[..., None], boxes, 0)
        report.compare(f"{prefix}bbox_targets", boxes, phase["bbox_targets"], BOX_TARGET)
    if "bbox_weights" in phase:
        report.compare(f"{prefix}bbox_weights", assignment.positive, phase["bbox_weights"], EXACT)
    if "norm_metric" in phase:
        report.compare(f"{prefix}norm_metric", assignment.target, phase["norm_metric"], TARGET)


def gradient_norms(module: nn.Module, names: Sequence[str]) -> Tensor:
    gradients = gradients_by_name(module)
    return torch.stack([gradients[name].double().norm() for name in names])


def gradients_by_name(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in module.named_parameters()
    }
