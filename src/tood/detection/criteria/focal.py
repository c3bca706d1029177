"""Criterion of RetinaNet, FCOS and ATSS, by their assigner: focal loss, a box loss and, if predicted, centerness."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from tood.config.base import PositiveFloat, Share
from tood.config.parts import HeadOutput, Over
from tood.detection.assigners.assignment import Assignment
from tood.detection.boxes import centerness
from tood.detection.criteria.base import DIVISOR_EPSILON, CriterionWithAssigner, LossTerm
from tood.detection.criteria.matching import (
    Matched,
    boxes_or_target,
    delta_errors,
    focal_losses,
    match,
    positives_per_image,
)
from tood.detection.losses import binary_cross_entropy, giou_loss
from tood.detection.predictions import Predictions
from tood.detection.training_batch import TrainingBatch


class FocalCriterion(CriterionWithAssigner):
    """Works on any head; with the box loss ``l1`` on one that predicts deltas."""

    kind: str = "focal"
    box_loss: Literal["giou", "l1"] = "giou"
    box_weight: PositiveFloat = 2.0
    weight_by: Literal["centerness", "nothing"] = Field("centerness", description="Weight of the box loss.")
    focal_alpha: Share = 0.25
    focal_gamma: float = Field(2.0, ge=0.0)
    normalise_over: Over = Field("step", description="group: each group by itself, as published for RetinaNet.")

    @property
    def over(self) -> Over:
        return self.normalise_over

    @property
    def needs(self) -> frozenset[HeadOutput]:
        return frozenset({"deltas"} if self.box_loss == "l1" else ())

    @property
    def trains(self) -> frozenset[HeadOutput]:
        return self.needs | {"quality"}

    def losses(self, batch: TrainingBatch, assignment: Assignment) -> list[LossTerm]:
        predictions = batch.predictions
        matched = match(assignment, batch.targets)
        count = positives_per_image(assignment, predictions.boxes.dtype)
        centre = centerness(predictions.points.centres, matched.boxes) * matched.positive
        classification = focal_losses(predictions, matched, alpha=self.focal_alpha, gamma=self.focal_gamma)
        classification = classification * assignment.counted(batch.valid)
        box = self._box_loss(predictions, matched) * self.box_weight
        terms = [LossTerm("loss_cls", classification, count, epsilon=DIVISOR_EPSILON)]
        if self.weight_by == "centerness":
            terms.append(LossTerm("loss_bbox", box * centre / (1 + DIVISOR_EPSILON), centre.sum(dim=1)))
        else:
            terms.append(LossTerm("loss_bbox", box * matched.positive, count, epsilon=DIVISOR_EPSILON))
        if predictions.quality is not None:
            quality = binary_cross_entropy(predictions.quality, centre) * matched.positive
            terms.append(LossTerm("loss_centerness", quality, count, epsilon=DIVISOR_EPSILON))
        return terms

    def _box_loss(self, predictions: Predictions, matched: Matched) -> Tensor:
        """(B, N), 0 where not positive."""
        if self.box_loss == "giou":
            return giou_loss(boxes_or_target(predictions.boxes, matched), matched.boxes)
        return delta_errors(predictions, matched).abs().sum(dim=-1)
