"""GFL's criterion: quality focal loss, GIoU and, with bins, distribution focal loss (Li et al. 2020)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tood.config.method import GflCriterionConfig
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.prior import assign_by_prior
from tood.detection.boxes import aligned_iou, encode_distances
from tood.detection.criteria.base import DIVISOR_EPSILON, AssignThenLoss, LossTerm, Progress
from tood.detection.criteria.matching import Matched, boxes_or_target, match, positives_per_image
from tood.detection.losses import (
    distribution_focal_loss,
    giou_loss,
    quality_focal_loss,
)
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets

END_MARGIN = 0.1
"""Distance targets stay this far below the last bin."""


@dataclass(frozen=True, kw_only=True)
class GflCriterion(AssignThenLoss):
    """With a ``dfl_weight`` it needs a head that represents boxes as bins; without it is ATSS + QFL."""

    config: GflCriterionConfig
    quality_beta: float = 2.0

    def assign(self, predictions: Predictions, targets: Targets, valid: Tensor, progress: Progress) -> Assignment:
        return assign_by_prior(self.config.assigner, predictions.points, targets, valid)

    def losses(
        self,
        predictions: Predictions,
        targets: Targets,
        valid: Tensor,
        assignment: Assignment,
        progress: Progress,
    ) -> list[LossTerm]:
        matched = match(assignment, targets, predictions.class_logits.shape[2])
        count = positives_per_image(assignment, predictions.boxes.dtype)
        iou = aligned_iou(predictions.boxes.detach(), matched.boxes)
        log_hit, log_miss = predictions.log_probabilities()
        classification = quality_focal_loss(
            log_hit, log_miss, torch.where(matched.classes, iou[..., None], 0), beta=self.quality_beta
        )
        weight = log_hit.detach().amax(dim=2).exp() * matched.positive
        box = giou_loss(boxes_or_target(predictions.boxes, matched), matched.boxes)
        box_share = self.config.box_weight / (1 + DIVISOR_EPSILON)
        counted = assignment.counted(valid)
        terms = [
            LossTerm("loss_cls", classification.sum(dim=2) * counted, count, epsilon=DIVISOR_EPSILON),
            LossTerm("loss_bbox", box * weight * box_share, weight.sum()),
        ]
        if self.config.dfl_weight is not None:
            dfl_share = self.config.dfl_weight / (4 + DIVISOR_EPSILON)
            distribution = _distribution_loss(predictions, matched)
            terms.append(LossTerm("loss_dfl", distribution * weight * dfl_share, weight.sum()))
        return terms


def _distribution_loss(predictions: Predictions, matched: Matched) -> Tensor:
    """(B, N) distribution focal loss summed over the four sides."""
    assert predictions.bins is not None
    points, bins = predictions.points, predictions.bins
    distances = encode_distances(points.centres, matched.boxes) / points.strides[:, None]
    return distribution_focal_loss(bins, distances.clamp(0, bins.shape[3] - 1 - END_MARGIN)).sum(dim=2)
