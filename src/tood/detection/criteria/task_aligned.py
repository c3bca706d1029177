"""TOOD's criterion: an ATSS phase, then task alignment learning (TOOD section 3.2 and equations 11, 12)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tood.config.method import TaskAlignedCriterionConfig
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.prior import assign_by_prior
from tood.detection.assigners.task_aligned import assign_task_aligned
from tood.detection.boxes import centerness
from tood.detection.criteria.base import DIVISOR_EPSILON, AssignThenLoss, LossTerm, Progress
from tood.detection.criteria.matching import boxes_or_target, match
from tood.detection.losses import focal_loss, giou_loss, quality_focal_loss
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets


@dataclass(frozen=True, kw_only=True)
class TaskAlignedCriterion(AssignThenLoss):
    """Two phases in one criterion; works on any head, with or without an alignment logit."""

    config: TaskAlignedCriterionConfig
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    quality_beta: float = 2.0

    def in_warmup(self, progress: Progress) -> bool:
        """Whether the ATSS phase still lasts."""
        if self.config.warmup_epochs is not None:
            return progress.epoch < self.config.warmup_epochs
        assert self.config.warmup_share is not None
        return progress.step < self.config.warmup_share * progress.total_steps

    def assign(self, predictions: Predictions, targets: Targets, valid: Tensor, progress: Progress) -> Assignment:
        if self.in_warmup(progress):
            return assign_by_prior(self.config.warmup_assigner, predictions.points, targets, valid)
        with torch.no_grad():
            scores = predictions.scores()
        rule = self.config.assigner
        return assign_task_aligned(
            scores,
            predictions.boxes.detach(),
            predictions.points,
            targets,
            valid,
            topk=rule.topk,
            alpha=rule.alpha,
            beta=rule.beta,
            conflict=rule.conflict,
        )

    def losses(
        self,
        predictions: Predictions,
        targets: Targets,
        valid: Tensor,
        assignment: Assignment,
        progress: Progress,
    ) -> list[LossTerm]:
        matched = match(assignment, targets, predictions.class_logits.shape[2])
        log_hit, log_miss = predictions.log_probabilities()
        if self.in_warmup(progress):
            classification = focal_loss(
                log_hit, log_miss, matched.classes, alpha=self.focal_alpha, gamma=self.focal_gamma
            )
            box_weight = centerness(predictions.points.centres, matched.boxes) * matched.positive
        else:
            quality = torch.where(matched.classes, assignment.target[..., None], 0)
            classification = quality_focal_loss(log_hit, log_miss, quality, beta=self.quality_beta)
            box_weight = assignment.target
        box = giou_loss(boxes_or_target(predictions.boxes, matched), matched.boxes)
        share = 1 / (1 + DIVISOR_EPSILON)
        return [
            LossTerm("loss_cls", classification.sum(dim=2) * valid * share, assignment.target.sum()),
            LossTerm("loss_bbox", box * box_weight * (self.config.box_weight * share), box_weight.sum()),
        ]
