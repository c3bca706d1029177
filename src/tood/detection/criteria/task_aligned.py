"""TOOD's criterion: an ATSS phase, then task alignment learning (TOOD section 3.2 and equations 11, 12)."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tood.config.base import PositiveFloat, Share
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.assigners.task_aligned import TaskAlignedAssigner
from tood.detection.boxes import centerness
from tood.detection.criteria.base import DIVISOR_EPSILON, Criterion, LossTerm
from tood.detection.criteria.matching import boxes_or_target, focal_losses, match, quality_focal_losses
from tood.detection.losses import giou_loss
from tood.detection.training_batch import Progress, TrainingBatch


class TaskAlignedCriterion(Criterion):
    """Two phases in one criterion; works on any head, with or without an alignment logit."""

    kind: str = "task_aligned"
    assigner: TaskAlignedAssigner = TaskAlignedAssigner()
    warmup_assigner: AtssAssigner = AtssAssigner()
    warmup_epochs: Annotated[int, Field(ge=0, le=100_000)] | None = Field(4, description="Epochs of the ATSS phase.")
    warmup_share: Share | None = Field(None, description="The same as a share of all steps; replaces warmup_epochs.")
    box_weight: PositiveFloat = 2.0
    focal_alpha: Share = 0.25
    focal_gamma: float = Field(2.0, ge=0.0)
    quality_beta: float = Field(2.0, ge=0.0)

    @model_validator(mode="after")
    def _has_one_length(self) -> "TaskAlignedCriterion":
        if (self.warmup_epochs is None) == (self.warmup_share is None):
            raise ValueError("give either 'warmup_epochs' or 'warmup_share' and set the other to null")
        return self

    def for_schedule(self, epochs: int) -> Self:
        if not self.warmup_epochs:
            return self
        return self.model_copy(update={"warmup_epochs": None, "warmup_share": min(1.0, self.warmup_epochs / epochs)})

    def in_warmup(self, progress: Progress) -> bool:
        """Whether the ATSS phase still lasts."""
        if self.warmup_epochs is not None:
            return progress.epoch < self.warmup_epochs
        assert self.warmup_share is not None
        return progress.step < self.warmup_share * progress.total_steps

    def program(self, progress: Progress, locations: int) -> bool:
        return self.in_warmup(progress)

    def assign(self, batch: TrainingBatch) -> Assignment:
        assigner = self.warmup_assigner if self.in_warmup(batch.progress) else self.assigner
        return assigner.assign(batch)

    def losses(self, batch: TrainingBatch, assignment: Assignment) -> list[LossTerm]:
        predictions = batch.predictions
        matched = match(assignment, batch.targets)
        if self.in_warmup(batch.progress):
            classification = focal_losses(predictions, matched, alpha=self.focal_alpha, gamma=self.focal_gamma)
            box_weight = centerness(predictions.points.centres, matched.boxes) * matched.positive
        else:
            classification = quality_focal_losses(predictions, matched, assignment.target, beta=self.quality_beta)
            box_weight = assignment.target
        box = giou_loss(boxes_or_target(predictions.boxes, matched), matched.boxes)
        share = 1 / (1 + DIVISOR_EPSILON)
        return [
            LossTerm("loss_cls", classification * batch.valid * share, assignment.target.sum(dim=1)),
            LossTerm("loss_bbox", box * box_weight * (self.box_weight * share), box_weight.sum(dim=1)),
        ]
