"""Max-IoU assignment: anchors by their overlap with objects (RetinaNet; Lin et al. 2017, section 4)."""

from typing import ClassVar

import torch
from pydantic import model_validator
from torch import Tensor

from tood.config.base import Share
from tood.detection.assigners.assignment import Assignment, chunk_length, elements_at_once, prior_assignment
from tood.detection.assigners.base import Assigner
from tood.detection.boxes import pairwise_iou
from tood.detection.points import Points
from tood.detection.targets import Targets
from tood.detection.training_batch import TrainingBatch


class MaxIouAssigner(Assigner):
    """Assigns by the IoU of anchor and object; anchors between the two thresholds are ignored."""

    several_anchors: ClassVar[bool] = True
    kind: str = "max_iou"
    positive: Share = 0.5
    negative: Share = 0.4

    @model_validator(mode="after")
    def _is_ordered(self) -> "MaxIouAssigner":
        if self.negative > self.positive:
            raise ValueError("negative must not be above positive")
        return self

    def assign(self, batch: TrainingBatch) -> Assignment:
        return self.assign_points(batch.predictions.points, batch.targets, batch.valid)

    @torch.no_grad()
    def assign_points(
        self, points: Points, targets: Targets, valid: Tensor, *, dense_elements: int | None = None
    ) -> Assignment:
        """Anchors go to the object they overlap most if that is at least ``positive``; below ``negative`` to none.

        Between the two they are ignored. Then every object claims the anchors that overlap it most, so that none
        goes without (of several objects the later one gets the anchor). ``valid`` (B, N) marks the anchors that
        take part; objects are treated in pieces of at most ``dense_elements`` overlaps.
        """
        targets = targets.with_a_slot()
        anchors = points.anchors.to(targets.boxes.dtype)
        best = torch.zeros(valid.shape, dtype=anchors.dtype, device=anchors.device)
        owner = torch.full(valid.shape, -1, dtype=torch.int64, device=anchors.device)
        claimant = owner
        step = chunk_length(valid.shape[0], valid.shape[1], dense_elements or elements_at_once(valid.device))
        for start in range(0, targets.boxes.shape[1], step):
            boxes, exists = targets.boxes[:, start : start + step], targets.valid[:, start : start + step]
            iou = pairwise_iou(boxes, anchors) * (exists[..., None] & valid[:, None])
            overlap, index = iou.max(dim=1)
            owner = torch.where(overlap > best, index + start, owner)
            best = torch.maximum(best, overlap)
            most = iou.amax(dim=2, keepdim=True)
            number = torch.arange(start, start + boxes.shape[1], device=iou.device)[:, None]
            claimant = torch.maximum(claimant, torch.where((iou == most) & (most > 0), number, -1).amax(dim=1))
        unclaimed = claimant < 0
        gt_index = torch.where(unclaimed, torch.where(best >= self.positive, owner, -1), claimant)
        ignored = unclaimed & (best >= self.negative) & (best < self.positive)
        return prior_assignment(points, targets, gt_index, ignored=ignored)
