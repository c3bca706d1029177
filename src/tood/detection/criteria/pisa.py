"""Prime sample attention on RetinaNet: losses weighted by importance (PISA; Cao et al. 2020, arXiv 1904.04821)."""

from typing import Literal

import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor

from tood.config.base import PositiveFloat, Share
from tood.config.parts import HeadOutput, Over
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.base import Assigner
from tood.detection.assigners.max_iou import MaxIouAssigner
from tood.detection.boxes import EPSILON, aligned_iou
from tood.detection.criteria.base import DIVISOR_EPSILON, CriterionWithAssigner, LossTerm
from tood.detection.criteria.class_terms import class_terms
from tood.detection.criteria.matching import delta_errors, focal_losses_of, match, positives_per_image
from tood.detection.losses import smooth_l1
from tood.detection.training_batch import TrainingBatch


class Pisa(CriterionWithAssigner):
    """Focal loss weighted by importance (ISR-P), smooth L1, and a second smooth L1 weighted by score (CARL).

    The weights compare samples of the images of a group, as the released code those of a GPU. Objects of different
    images are different objects (that code confuses some from the third image on). Negatives keep
    weight 1; their re-weighting (ISR-N) is for detectors of two stages.
    """

    kind: str = "pisa"
    assigner: SerializeAsAny[Assigner] = MaxIouAssigner()
    box_weight: PositiveFloat = 1.0
    smooth_l1_beta: PositiveFloat = Field(0.11, description="Where the box losses turn linear, in deltas.")
    isr_k: PositiveFloat = Field(2.0, description="Exponent of the importance of a positive.")
    isr_bias: Share = Field(0.0, description="Importance before the exponent of the least important positive.")
    carl_k: PositiveFloat = Field(1.0, description="Exponent of the score weight.")
    carl_bias: Share = Field(0.2, description="Score weight before the exponent at score 0.")
    focal_alpha: Share = 0.25
    focal_gamma: float = Field(2.0, ge=0.0)

    @property
    def over(self) -> Over:
        return "group"

    @property
    def needs(self) -> frozenset[HeadOutput]:
        return frozenset({"deltas"})

    def losses(self, batch: TrainingBatch, assignment: Assignment) -> list[LossTerm]:
        predictions, positive, group = batch.predictions, assignment.positive, batch.group_of()
        matched = match(assignment, batch.targets)
        terms = class_terms(predictions, matched.labels, positive, gamma=self.focal_gamma)
        classification = focal_losses_of(terms, positive, alpha=self.focal_alpha, gamma=self.focal_gamma)
        classification = classification * assignment.counted(batch.valid)
        with torch.no_grad():
            iou = aligned_iou(predictions.boxes, matched.boxes)
            importance = importance_weights(
                iou, assignment.gt_index, matched.labels, group, k=self.isr_k, bias=self.isr_bias
            )
            importance = keep_sum(importance, classification, positive, group)
        attention = attention_weights(terms.log_hit.exp(), positive, group, k=self.carl_k, bias=self.carl_bias)
        box = smooth_l1(delta_errors(predictions, matched), self.smooth_l1_beta).sum(dim=2) * self.box_weight
        count = positives_per_image(assignment, predictions.boxes.dtype)
        return [
            LossTerm("loss_cls", classification * importance, count, epsilon=DIVISOR_EPSILON),
            LossTerm("loss_bbox", box * positive, count, epsilon=DIVISOR_EPSILON),
            LossTerm("loss_carl", box * attention, count),
        ]


def importance_weights(
    iou: Tensor, gt_index: Tensor, labels: Tensor, group: Tensor, *, k: float, bias: float
) -> Tensor:
    """Importance of positives in [0, 1], 1 elsewhere: (B, N) each but ``group`` (B,), whose images are compared.

    Positives of one object are ranked by the ``iou`` of their predicted box, then all of one class in the group
    by that rank and, where equal, by ``iou`` (the paper's IoU-HLR; equal overlaps in the order of locations).
    With rank r from 0 and M, the positives of the largest class: (bias + (1 - bias) (M - r) / M)^k.
    """
    is_positive = gt_index >= 0
    positive = is_positive.flatten()
    images = torch.arange(len(iou), device=iou.device)[:, None]
    objects = torch.where(is_positive, gt_index + images * (gt_index.amax() + 1), -1).flatten()
    classes = torch.where(is_positive, labels + group[:, None] * (labels.amax() + 1), -1).flatten()
    order = torch.where(positive, iou.flatten(), -1).argsort(descending=True, stable=True)
    among_object = _rank_within(objects, order)
    order = order[among_object[order].argsort(stable=True)]
    among_class = _rank_within(classes, order).view_as(iou)
    largest = _of_group(torch.where(is_positive, among_class + 1, 1).amax(dim=1), group, "amax")[:, None].to(iou.dtype)
    weight = (bias + (1 - bias) * (largest - among_class) / largest).pow(k)
    return torch.where(is_positive, weight, 1)


def _of_group(value: Tensor, group: Tensor, how: Literal["sum", "amax"]) -> Tensor:
    """For each image (B,), what the ``value`` (B,) of the images of its ``group`` (B,) comes to."""
    same = group[:, None] == group
    if how == "sum":
        return same.to(value.dtype) @ value
    return torch.where(same, value, 0).amax(dim=1)


def _rank_within(group: Tensor, order: Tensor) -> Tensor:
    """The rank (P,), from 0, of each element within its ``group`` (P,) when all are sorted by ``order`` (P,)."""
    # Integers of half the width are sorted in half the time.
    sorted_group, by_group = group[order].int().sort(stable=True)
    place = torch.arange(len(group), device=group.device, dtype=torch.int32)
    starts = torch.ones_like(sorted_group, dtype=torch.bool)
    starts[1:] = sorted_group[1:] != sorted_group[:-1]
    rank = place - torch.where(starts, place, 0).cummax(dim=0).values
    return torch.empty_like(rank).scatter(0, order[by_group], rank)


def keep_sum(weight: Tensor, loss: Tensor, positive: Tensor, group: Tensor) -> Tensor:
    """``weight`` (B, N) scaled at positives so that it keeps the sum of their ``loss`` (B, N) in each group."""
    before = _of_group(torch.where(positive, loss, 0).sum(dim=1), group, "sum")
    after = _of_group(torch.where(positive, loss * weight, 0).sum(dim=1), group, "sum")
    # Both sums are 0 without positives, and may be 0 if every score is perfect.
    scale = torch.where(after > 0, before / after, 1)[:, None]
    return torch.where(positive, weight * scale, weight)


def attention_weights(score: Tensor, positive: Tensor, group: Tensor, *, k: float, bias: float) -> Tensor:
    """(bias + (1 - bias) p)^k of positives scaled to a mean of 1 in each group, 0 elsewhere: (B, N) each.

    The gradient flows through the scores, in the sum as well.
    """
    weight = torch.where(positive, (bias + (1 - bias) * score).clamp(min=EPSILON).pow(k), 0)
    total = _of_group(weight.sum(dim=1), group, "sum").clamp(min=torch.finfo(weight.dtype).tiny)
    count = _of_group(positive.sum(dim=1).to(weight.dtype), group, "sum")
    return weight * (count / total)[:, None]
