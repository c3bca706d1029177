"""Task alignment learning (TAL), the sample assignment of TOOD by the alignment metric t (TOOD section 3.2)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tood.config.base import PositiveFloat, PositiveInt
from tood.detection.assigners.assignment import (
    CENTRE_MARGIN,
    Assignment,
    chunk_length,
    elements_at_once,
    settle_conflicts,
)
from tood.detection.assigners.base import Assigner
from tood.detection.boxes import aligned_iou, box_area, inner_margin, rows_iou
from tood.detection.points import Points
from tood.detection.ranking import top_first
from tood.detection.targets import Targets
from tood.detection.training_batch import TrainingBatch

METRIC_EPSILON = 1e-7

Conflict = Literal["min_area", "max_iou"]


@dataclass(frozen=True, eq=False)
class AlignedCandidates:
    """Every object's M locations with the highest alignment metric; all (B, G, M)."""

    locations: Tensor
    """int64."""
    iou: Tensor
    accepted: Tensor
    """bool: metric above 0 and the location's centre inside the object."""


class TaskAlignedAssigner(Assigner):
    """TAL: the ``topk`` (m) anchors with the highest t = s^alpha * u^beta (section 3.2)."""

    kind: str = "task_aligned"
    topk: PositiveInt = 13
    alpha: PositiveFloat = 1.0
    beta: PositiveFloat = 6.0
    conflict: Conflict = "min_area"

    def assign(self, batch: TrainingBatch) -> Assignment:
        predictions = batch.predictions
        with torch.no_grad():
            scores = predictions.scores()
        boxes = predictions.boxes.detach()
        return self.assign_predictions(scores, boxes, predictions.points, batch.targets, batch.valid)

    @torch.no_grad()
    def assign_predictions(
        self,
        scores: Tensor,
        boxes: Tensor,
        points: Points,
        targets: Targets,
        valid: Tensor,
        *,
        dense_elements: int | None = None,
    ) -> Assignment:
        """Assign by t = s^alpha * u^beta (eq. 7) and normalise t per object to its best overlap.

        ``scores`` (B, N, C) are probabilities, ``boxes`` (B, N, 4) predicted boxes in pixels, ``valid`` (B, N)
        the locations that take part. A location wanted by several objects goes to the object of least area
        (the paper's supplement) or of largest overlap (the released code). The dense part over objects and
        locations is done in pieces of at most ``dense_elements``, by default what suits the device.
        """
        targets = targets.with_a_slot()
        candidates = self.candidates(scores, boxes, points, targets, valid, dense_elements=dense_elements)
        if self.conflict == "max_iou":
            cost = -candidates.iou
        else:
            cost = box_area(targets.boxes)[..., None].expand_as(candidates.iou)
        gt_index = settle_conflicts(candidates.locations, candidates.accepted, cost, boxes.shape[1])
        positive = gt_index >= 0
        gt_boxes, gt_labels = targets.take(gt_index)
        iou = torch.where(positive, aligned_iou(boxes, gt_boxes), 0)
        score = scores.gather(2, gt_labels.clamp(min=0)[..., None]).squeeze(2)
        metric = torch.where(positive, alignment_metric(score, iou, self.alpha, self.beta), 0)
        target = normalise_metric(metric, iou, gt_index, num_objects=targets.boxes.shape[1])
        return Assignment(gt_index=gt_index, iou=iou, metric=metric, target=target)

    @torch.no_grad()
    def candidates(
        self,
        scores: Tensor,
        boxes: Tensor,
        points: Points,
        targets: Targets,
        valid: Tensor,
        *,
        dense_elements: int | None = None,
    ) -> AlignedCandidates:
        """The ``topk`` best locations of every object over all levels; then those outside the object are dropped."""
        images, length, classes = scores.shape
        if dense_elements is None:
            dense_elements = elements_at_once(scores.device)
        # A row of N values for each class and each side of a box: all that follows runs along rows. Locations that
        # take no part get boxes without area, which overlap nothing.
        by_class = scores.transpose(1, 2).reshape(images * classes, length)
        sides = boxes.transpose(1, 2).masked_fill(~valid[:, None], 0).contiguous()
        areas = box_area(boxes).masked_fill(~valid, 0)
        row = targets.labels.clamp(min=0) + classes * torch.arange(images, device=scores.device)[:, None]
        step = chunk_length(images, length, dense_elements)
        locations, metrics, overlaps = [], [], []
        for gt_boxes, gt_row in zip(torch.split(targets.boxes, step, 1), torch.split(row, step, 1), strict=True):
            iou = rows_iou(gt_boxes, sides, areas)
            metric = alignment_metric(by_class[gt_row], iou, self.alpha, self.beta)
            values, indices = top_first(metric, min(self.topk, length))
            locations.append(indices)
            metrics.append(values)
            overlaps.append(iou.gather(2, indices))
        where = torch.cat(locations, dim=1)
        inside = inner_margin(points.centres.to(boxes.dtype)[where], targets.boxes[:, :, None]) > CENTRE_MARGIN
        accepted = (torch.cat(metrics, dim=1) > 0) & inside & targets.valid[..., None]
        return AlignedCandidates(where, torch.cat(overlaps, dim=1), accepted)


def alignment_metric(score: Tensor, iou: Tensor, alpha: float, beta: float) -> Tensor:
    """t = s^alpha * u^beta."""
    return _power(score, alpha) * _power(iou, beta)


def _power(base: Tensor, exponent: float) -> Tensor:
    """``base`` >= 0 to a power; a small whole exponent by multiplication, several times faster than ``pow``."""
    if exponent not in range(1, 9):
        return base.pow(exponent)
    if exponent == 1:
        return base
    half = _power(base, exponent // 2)
    return half * half if exponent % 2 == 0 else half * half * base


def normalise_metric(metric: Tensor, iou: Tensor, gt_index: Tensor, *, num_objects: int) -> Tensor:
    """t_hat (B, N): each object's metrics scaled so that the largest equals its largest overlap."""
    slot = torch.where(gt_index >= 0, gt_index, num_objects)
    empty = metric.new_zeros(metric.shape[0], num_objects + 1)
    best_metric = empty.scatter_reduce(1, slot, metric, "amax").gather(1, slot)
    best_iou = empty.scatter_reduce(1, slot, iou, "amax").gather(1, slot)
    return metric / (best_metric + METRIC_EPSILON) * best_iou
