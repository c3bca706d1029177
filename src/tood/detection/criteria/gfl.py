"""GFL's criterion: quality focal loss, GIoU and, with bins, distribution focal loss (Li et al. 2020)."""

from pydantic import Field
from torch import Tensor

from tood.config.base import PositiveFloat
from tood.config.parts import HeadOutput
from tood.detection.assigners.assignment import Assignment
from tood.detection.boxes import aligned_iou, encode_distances
from tood.detection.criteria.base import DIVISOR_EPSILON, CriterionWithAssigner, LossTerm
from tood.detection.criteria.matching import Matched, boxes_or_target, match, positives_per_image, quality_focal_losses
from tood.detection.losses import distribution_focal_loss, giou_loss
from tood.detection.predictions import Predictions
from tood.detection.training_batch import TrainingBatch

END_MARGIN = 0.1
"""Distance targets stay this far below the last bin."""


class GflCriterion(CriterionWithAssigner):
    """With a ``dfl_weight`` it needs a head that represents boxes as bins; without it is ATSS + QFL."""

    kind: str = "gfl"
    box_weight: PositiveFloat = 2.0
    dfl_weight: PositiveFloat | None = 0.25
    quality_beta: float = Field(2.0, ge=0.0)

    @property
    def needs(self) -> frozenset[HeadOutput]:
        return frozenset(() if self.dfl_weight is None else {"bins"})

    def losses(self, batch: TrainingBatch, assignment: Assignment) -> list[LossTerm]:
        predictions = batch.predictions
        matched = match(assignment, batch.targets)
        count = positives_per_image(assignment, predictions.boxes.dtype)
        iou = aligned_iou(predictions.boxes.detach(), matched.boxes)
        classification = quality_focal_losses(predictions, matched, iou, beta=self.quality_beta)
        weight = predictions.best_scores() * matched.positive
        box = giou_loss(boxes_or_target(predictions.boxes, matched), matched.boxes)
        box_share = self.box_weight / (1 + DIVISOR_EPSILON)
        counted = assignment.counted(batch.valid)
        terms = [
            LossTerm("loss_cls", classification * counted, count, epsilon=DIVISOR_EPSILON),
            LossTerm("loss_bbox", box * weight * box_share, weight.sum(dim=1)),
        ]
        if self.dfl_weight is not None:
            dfl_share = self.dfl_weight / (4 + DIVISOR_EPSILON)
            distribution = _distribution_loss(predictions, matched)
            terms.append(LossTerm("loss_dfl", distribution * weight * dfl_share, weight.sum(dim=1)))
        return terms


def _distribution_loss(predictions: Predictions, matched: Matched) -> Tensor:
    """(B, N) distribution focal loss summed over the four sides."""
    assert predictions.bins is not None
    points, bins = predictions.points, predictions.bins
    distances = encode_distances(points.centres, matched.boxes) / points.strides[:, None]
    return distribution_focal_loss(bins, distances.clamp(0, bins.shape[3] - 1 - END_MARGIN)).sum(dim=2)
