"""ATSS' criterion: focal loss, GIoU weighted by centerness, centerness (Zhang et al. 2020)."""

from dataclasses import dataclass

from torch import Tensor

from tood.config.method import AtssCriterionConfig
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.atss import assign_atss
from tood.detection.boxes import centerness
from tood.detection.criteria.base import DIVISOR_EPSILON, AssignThenLoss, LossTerm, Progress
from tood.detection.criteria.matching import boxes_or_target, match, positives_per_image
from tood.detection.losses import binary_cross_entropy, focal_loss, giou_loss
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets


@dataclass(frozen=True, kw_only=True)
class AtssCriterion(AssignThenLoss):
    """Needs a head that predicts a quality (centerness)."""

    config: AtssCriterionConfig
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0

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
        assert predictions.quality is not None
        matched = match(assignment, targets, predictions.class_logits.shape[2])
        count = positives_per_image(assignment, predictions.boxes.dtype)
        centre = centerness(predictions.points.centres, matched.boxes) * matched.positive
        log_hit, log_miss = predictions.log_probabilities()
        classification = focal_loss(log_hit, log_miss, matched.classes, alpha=self.focal_alpha, gamma=self.focal_gamma)
        box = giou_loss(boxes_or_target(predictions.boxes, matched), matched.boxes)
        quality = binary_cross_entropy(predictions.quality, centre) * matched.positive
        share = 1 / (1 + DIVISOR_EPSILON)
        return [
            LossTerm("loss_cls", classification.sum(dim=2) * valid, count, epsilon=DIVISOR_EPSILON),
            LossTerm("loss_bbox", box * centre * (self.config.box_weight * share), centre.sum()),
            LossTerm("loss_centerness", quality, count, epsilon=DIVISOR_EPSILON),
        ]
