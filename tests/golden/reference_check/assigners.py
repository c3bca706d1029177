"""``tal_assign*`` and ``atss_assign*``: assigners on recorded inputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reference_check.folder import Arrays, below, read_arrays, read_json, tensor
from reference_check.rows import EXACT, Report, Tolerance, UnsupportedError
from reference_check.scene import pad_targets
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.assigners.task_aligned import Conflict, TaskAlignedAssigner
from tood.detection.points import STRIDES, Points, make_points
from tood.detection.targets import Targets

RULES: tuple[Conflict, ...] = ("max_iou", "min_area")
FLOAT32 = Tolerance(relative=1e-4)
FLOAT64 = Tolerance(relative=1e-9)


def check_task_aligned(folder: Path, stem: str, report: Report) -> None:
    arrays = read_arrays(folder / f"{stem}.npz")
    for name, options in read_json(folder / f"{stem}.json")["instances"].items():
        report.at(f"{name}: ")
        _task_aligned_instance(below(arrays, f"{name}/"), options, report)


def _task_aligned_instance(arrays: Arrays, options: dict[str, Any], report: Report) -> None:
    rule = {"topk": options["topk"], "alpha": options["alpha"], "beta": options["beta"]}
    for dtype in (torch.float32, torch.float64):
        points, targets, valid = _scene(arrays, options["featmap_sizes"], dtype)
        scores, boxes = tensor(arrays["scores"], dtype)[None], tensor(arrays["bboxes"], dtype)[None]
        if dtype == torch.float32:
            found = TaskAlignedAssigner(**rule).candidates(scores, boxes, points, targets.with_a_slot(), valid)
            mask = _mask(found.locations, found.accepted, arrays["candidate_mask"].shape)
            report.compare("candidate_mask", mask, arrays["candidate_mask"], EXACT)
        for conflict in RULES:
            assigner = TaskAlignedAssigner(conflict=conflict, **rule)
            assignment = assigner.assign_predictions(scores, boxes, points, targets, valid)
            report.compare(
                f"assigned_{conflict} {dtype}",
                assignment.gt_index[0] + 1,
                arrays[f"assigned_{conflict}"],
                EXACT,
            )
            parts = {"metric": assignment.metric, "iou": assignment.iou, "target": assignment.target}
            for part, values in parts.items():
                if dtype == torch.float64:
                    report.compare(f"{part}64_{conflict}", values[0], arrays[f"{part}64_{conflict}"], FLOAT64)
                elif conflict == "max_iou":
                    report.compare(f"{part}_{conflict}", values[0], arrays[f"{part}_{conflict}"], FLOAT32)
            if dtype == torch.float32 and conflict == "max_iou":
                _looked_up(report, assignment, targets, arrays, options["num_classes"])


def _looked_up(report: Report, assignment: Assignment, targets: Targets, arrays: Arrays, num_classes: int) -> None:
    boxes, labels = targets.with_a_slot().take(assignment.gt_index)
    boxes = torch.where(assignment.positive[..., None], boxes, 0)
    labels = torch.where(assignment.positive, labels, num_classes)
    overlaps = torch.where(assignment.positive, assignment.iou, -1e8 if len(arrays["gt_labels"]) else 0.0)
    report.compare("labels_max_iou", labels[0], arrays["labels_max_iou"], EXACT)
    report.compare("bbox_targets_max_iou", boxes[0], arrays["bbox_targets_max_iou"], EXACT)
    report.compare("raw_max_overlaps", overlaps[0], arrays["raw_max_overlaps"], FLOAT32)


def check_atss(folder: Path, stem: str, report: Report) -> None:
    arrays = read_arrays(folder / f"{stem}.npz")
    for name, options in read_json(folder / f"{stem}.json")["instances"].items():
        report.at(f"{name}: ")
        _atss_instance(below(arrays, f"{name}/"), options, report)


def _atss_instance(arrays: Arrays, options: dict[str, Any], report: Report) -> None:
    for dtype in (torch.float32, torch.float64):
        points, targets, valid = _scene(arrays, options["featmap_sizes"], dtype)
        assignment = AtssAssigner(topk=options["topk"]).assign_points(points, targets, valid)
        if not options.get("strict", True):
            # Equal distances at the cut: which are taken depends on how a sort orders equal values.
            wrong = (assignment.gt_index[0] + 1).numpy() != arrays["assigned"]
            report.count(f"assigned {dtype} (ties, informational)", int(wrong.sum()), len(wrong), 0.5)
            continue
        found = AtssAssigner(topk=options["topk"]).candidates(points, targets.with_a_slot(), valid)
        shape = arrays["candidate_mask"].shape
        nearest, accepted = (_mask(found.locations, kept, shape) for kept in (found.nearest, found.accepted))
        report.compare(f"candidate_mask {dtype}", nearest, arrays["candidate_mask"], EXACT)
        report.compare(f"positive_mask {dtype}", accepted, arrays["positive_mask"], EXACT)
        report.compare(f"assigned {dtype}", assignment.gt_index[0] + 1, arrays["assigned"], EXACT)
        threshold = found.threshold[0, : shape[1]]
        report.compare(
            f"iou_threshold64 {dtype}",
            threshold,
            arrays["iou_threshold64"],
            FLOAT64 if dtype == torch.float64 else FLOAT32,
        )
        if dtype == torch.float32:
            _, labels = targets.with_a_slot().take(assignment.gt_index)
            labels = torch.where(assignment.positive, labels, -1)
            overlaps = torch.where(assignment.positive, assignment.iou, -1e8 if shape[1] else 0.0)
            report.compare("labels", labels[0], arrays["labels"], EXACT)
            report.compare("iou", assignment.iou[0], arrays["iou"], FLOAT32)
            report.compare("raw_max_overlaps", overlaps[0], arrays["raw_max_overlaps"], FLOAT32)


def _scene(arrays: Arrays, sizes: Sequence[Sequence[int]], dtype: torch.dtype) -> tuple[Points, Targets, Tensor]:
    """The grid of recorded map sizes, which must give the recorded priors; one image's objects, all valid."""
    level_sizes = tuple((height, width) for height, width in sizes)
    points = make_points(level_sizes, STRIDES[: len(level_sizes)], torch.device("cpu"), dtype)
    priors = tensor(arrays["priors"], dtype)
    if not torch.equal(points.anchors, priors):
        raise UnsupportedError("only square anchors on the grid of the map sizes are known")
    targets = pad_targets([arrays["gt_bboxes"]], [arrays["gt_labels"]], dtype)
    return points, targets, torch.ones(1, len(priors), dtype=torch.bool)


def _mask(locations: Tensor, kept: Tensor, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Candidate lists (1, G, M) as a mask (N, G)."""
    mask = np.zeros(shape, dtype=bool)
    for gt in range(shape[1]):
        mask[locations[0, gt][kept[0, gt]].numpy(), gt] = True
    return mask
