"""Objects, valid locations and detections in the project's own terms."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reference_check.folder import Arrays, numbered, tensor
from reference_check.rows import Report
from tood.detection.postprocess import Detections
from tood.detection.targets import Targets

SAME_SCORE = 3e-6
"""Detections whose scores are closer than this may stand in either order."""


def pad_targets(boxes: Sequence[NDArray[Any]], labels: Sequence[NDArray[Any]], dtype: torch.dtype) -> Targets:
    """Objects of several images in padded slots."""
    slots = max((len(b) for b in boxes), default=0)
    padded = Targets(
        torch.zeros(len(boxes), slots, 4, dtype=dtype),
        torch.zeros(len(boxes), slots, dtype=torch.int64),
        torch.zeros(len(boxes), slots, dtype=torch.bool),
    )
    for image, (image_boxes, image_labels) in enumerate(zip(boxes, labels, strict=True)):
        count = len(image_boxes)
        padded.boxes[image, :count] = tensor(image_boxes, dtype)
        padded.labels[image, :count] = tensor(image_labels)
        padded.valid[image, :count] = True
    return padded


def targets_of(arrays: Arrays, dtype: torch.dtype) -> Targets:
    return pad_targets(numbered(arrays, "gt_bboxes"), numbered(arrays, "gt_labels"), dtype)


def meta_tensor(metas: Sequence[dict[str, Any]], key: str) -> Tensor:
    """One pair per image from the recorded image metas (B, 2)."""
    return torch.tensor([meta[key] for meta in metas])


def compare_detections(
    report: Report,
    ours: Sequence[Detections],
    arrays: Arrays,
    prefix: str,
    *,
    box_tolerance: float,
    score_tolerance: float,
    unmatched: float = 0.0,
) -> None:
    """Every recorded detection must be found, in its place up to swaps of (nearly) equal scores.

    Where the recorded box is NaN (score voting without a vote), class and score must agree and ours be finite.
    """
    for image, detections in enumerate(ours):
        boxes = arrays[f"{prefix}_bboxes_{image}"]
        scores = arrays[f"{prefix}_scores_{image}"]
        labels = arrays[f"{prefix}_labels_{image}"]
        name = f"{prefix}[{image}]"
        report.count(f"{name} count", abs(len(detections.scores) - len(scores)), len(scores), unmatched)
        found = _in_order(detections, boxes, scores, labels, score_tolerance if unmatched else SAME_SCORE)
        undefined = np.isnan(boxes).any(axis=1)
        box_error = np.abs(found[0] - np.where(undefined[:, None], found[0], boxes)).max(axis=1, initial=0.0)
        score_error = np.abs(found[1] - scores)
        right = (found[2] == labels) & (box_error <= box_tolerance) & (score_error <= score_tolerance)
        text = f"class, {box_tolerance:g} px, {score_tolerance:g} score"
        report.count(f"{name} ({text})", int((~right).sum()), len(scores), unmatched)
        if undefined.any():
            unusable = ~np.isfinite(found[0][undefined]).all(axis=1)
            total = int(undefined.sum())
            report.count(f"{name} not finite of {total} NaN boxes in the reference", int(unusable.sum()), total)


def _in_order(
    detections: Detections,
    boxes: NDArray[Any],
    scores: NDArray[Any],
    labels: NDArray[Any],
    window: float,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Our detections in the order of the recorded ones; NaN where there is none for it."""
    own_boxes = detections.boxes.double().numpy()
    own_scores = detections.scores.double().numpy()
    own_labels = detections.labels.numpy()
    free = np.ones(len(own_scores), dtype=bool)
    result = np.full(boxes.shape, np.nan), np.full(scores.shape, np.nan), np.full(labels.shape, -1)
    for index, (box, score, label) in enumerate(zip(boxes, scores, labels, strict=True)):
        near = free & (np.abs(own_scores - score) <= window) & (own_labels == label)
        if not near.any() and index < len(free) and free[index]:
            near[index] = True
        if near.any():
            distance = np.where(near, np.nan_to_num(np.abs(own_boxes - box)).max(axis=1), np.inf)
            best = int(distance.argmin())
            free[best] = False
            result[0][index], result[1][index], result[2][index] = (
                own_boxes[best],
                own_scores[best],
                own_labels[best],
            )
    return result
