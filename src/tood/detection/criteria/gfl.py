"""GFL's criterion: quality focal loss, GIoU and distribution focal loss (Li et al. 2020)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tood.config.method import GflCriterionConfig
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.atss import assign_atss
from tood.detection.boxes import aligned_iou, encode_distances
from tood.detection.criteria.base import DIVISOR_EPSILON, AssignThenLoss, LossTerm, Progress
from tood.detection.criteria.matching import boxes_or_target, match, positives_per_image
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
    """Needs a head that represents boxes as bins."""

    config: GflCriterionConfig
    quality_beta: float = 2.0

    def assign(self, predictions: Predictions, targets: Targets, valid: Tensor, progress: Progress) -> Assignment:
        return assign_atss(predictions.points, targets, valid, topk=self.config.assigner.topk)

    def losses(
        self,
        predictions: Predictions,
        targets: Targets,
        valid: Tensor,
        assignment: Assignment,
        progress: Progress,
    ) -> list[LossTerm]:
        assert predictions.bins is not None
        points, bins = predictions.points, predictions.bins
        matched = match(assignment, targets, predictions.class_logits.shape[2])
        count = positives_per_image(assignment, predictions.boxes.dtype)
        iou = aligned_iou(predictions.boxes.detach(), matched.boxes)
        log_hit, log_miss = predictions.log_probabilities()
        classification = quality_focal_loss(
            log_hit, log_miss, torch.where(matched.classes, iou[..., None], 0), beta=self.quality_beta
        )
        weight = log_hit.detach().amax(dim=2).exp() * matched.positive
        box = giou_loss(boxes_or_target(predictions.boxes, matched), matched.boxes)
        distances = encode_distances(points.centres, matched.boxes) / points.strides[:, None]
        distribution = distribution_focal_loss(bins, distances.clamp(0, bins.shape[3] - 1 - END_MARGIN))
        box_share = self.config.box_weight / (1 + DIVISOR_EPSILON)
        dfl_share = self.config.dfl_weight / (4 + DIVISOR_EPSILON)
        return [
            LossTerm("loss_cls", classification.sum(dim=2) * valid, count, epsilon=DIVISOR_EPSILON),
            LossTerm("loss_bbox", box * weight * box_share, weight.sum()),
            LossTerm("loss_dfl", distribution.sum(dim=2) * weight * dfl_share, weight.sum()),
        ]
