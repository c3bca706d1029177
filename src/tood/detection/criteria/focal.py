"""Focal loss, a box loss and, where predicted, centerness: RetinaNet, FCOS and ATSS, by their assigner."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tood.config.method import FocalCriterionConfig
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.prior import assign_by_prior
from tood.detection.boxes import DELTA_STDS, DeltaStds, centerness, encode_deltas
from tood.detection.criteria.base import DIVISOR_EPSILON, AssignThenLoss, LossTerm, Progress
from tood.detection.criteria.matching import Matched, boxes_or_target, match, positives_per_image
from tood.detection.losses import binary_cross_entropy, focal_loss, giou_loss
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets


@dataclass(frozen=True, kw_only=True)
class FocalCriterion(AssignThenLoss):
    """Works on any head; with the box loss ``l1`` on one that predicts deltas, of deviations ``delta_stds``."""

    config: FocalCriterionConfig
    delta_stds: DeltaStds = DELTA_STDS
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0

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
        centre = centerness(predictions.points.centres, matched.boxes) * matched.positive
        log_hit, log_miss = predictions.log_probabilities()
        classification = focal_loss(log_hit, log_miss, matched.classes, alpha=self.focal_alpha, gamma=self.focal_gamma)
        classification = classification.sum(dim=2) * assignment.counted(valid)
        box = self._box_loss(predictions, matched) * self.config.box_weight
        terms = [LossTerm("loss_cls", classification, count, epsilon=DIVISOR_EPSILON)]
        if self.config.weight_by == "centerness":
            terms.append(LossTerm("loss_bbox", box * centre / (1 + DIVISOR_EPSILON), centre.sum()))
        else:
            terms.append(LossTerm("loss_bbox", box * matched.positive, count, epsilon=DIVISOR_EPSILON))
        if predictions.quality is not None:
            quality = binary_cross_entropy(predictions.quality, centre) * matched.positive
            terms.append(LossTerm("loss_centerness", quality, count, epsilon=DIVISOR_EPSILON))
        return terms

    def _box_loss(self, predictions: Predictions, matched: Matched) -> Tensor:
        """(B, N), 0 where not positive."""
        if self.config.box_loss == "giou":
            return giou_loss(boxes_or_target(predictions.boxes, matched), matched.boxes)
        assert predictions.deltas is not None
        deltas = encode_deltas(predictions.points.anchors, matched.boxes, self.delta_stds)
        deltas = torch.where(matched.positive[..., None], deltas, predictions.deltas.detach())
        return (predictions.deltas - deltas).abs().sum(dim=-1)
