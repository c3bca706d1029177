"""FreeAnchor's criterion: learning which anchors of a bag match an object (Zhang et al. 2019); MAL shares its base."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tood.config.base import PositiveFloat, PositiveInt, Share
from tood.config.parts import HeadOutput, Over
from tood.detection.assigners.assignment import Assignment, settle_conflicts
from tood.detection.assigners.bags import Bags, anchor_bags
from tood.detection.boxes import aligned_iou, encode_deltas
from tood.detection.criteria.base import Criterion, LossTerm
from tood.detection.criteria.negative_bag import negative_bag_loss
from tood.detection.losses import smooth_l1
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress, TrainingBatch

SMALLEST_MISS = 1e-12
"""Least 1 - p in the weights of the mean-max."""


class BagCriterion(Criterion):
    """Every object is learned from a bag of anchors; works on a head that predicts deltas."""

    bag: PositiveInt = Field(50, description="Anchors of largest overlap in an object's bag.")
    alpha: Share = Field(0.5, description="Weight of the positive loss; the negative one has the rest.")
    gamma: float = Field(2.0, ge=0.0)
    box_weight: PositiveFloat = 0.75
    smooth_l1_beta: PositiveFloat = 0.11
    ties: Literal["first", "topk"] = Field(
        "first",
        description="Which of equally overlapping anchors end a bag: the first ones, on every device; or those that "
        "PyTorch's topk takes on this device, as the released code does and its recorded numbers need.",
    )
    iou_threshold: float = Field(0.6, ge=0.0, lt=1.0, description="Of predicted boxes; below it, all background.")

    @property
    def over(self) -> Over:
        return "group"

    @property
    def needs(self) -> frozenset[HeadOutput]:
        return frozenset({"deltas"})

    @property
    def several_anchors(self) -> bool:
        return True

    def __call__(self, batch: TrainingBatch) -> list[LossTerm]:
        """The terms, with autocast disabled; nothing is assigned first."""
        with torch.autocast(batch.predictions.boxes.device.type, enabled=False):
            return self._terms(batch)

    @torch.no_grad()
    def assign(self, batch: TrainingBatch) -> Assignment:
        """For analysis: of every bag the anchor with the highest joint probability.

        No loss uses it. An anchor that is the best of several bags counts for the object of highest probability.
        """
        predictions, targets = batch.predictions, batch.targets.with_a_slot()
        bags = self._bags(batch)
        log_joint, best = self.log_joint(predictions, targets, bags).max(dim=2, keepdim=True)
        where = bags.locations.gather(2, best)
        gt_index = settle_conflicts(where, targets.valid[..., None], -log_joint, predictions.boxes.shape[1])
        positive = (gt_index >= 0).to(predictions.boxes.dtype)
        boxes, _ = targets.take(gt_index)
        iou = aligned_iou(predictions.boxes, boxes) * positive
        joint = log_joint.squeeze(2).exp().gather(1, gt_index.clamp(min=0)) * positive
        return Assignment(gt_index=gt_index, iou=iou, metric=joint, target=positive)

    def losses(self, batch: TrainingBatch, assignment: Assignment) -> list[LossTerm]:
        """The terms, which do not depend on the assignment."""
        return self._terms(batch)

    def chosen(self, log_joint: Tensor, progress: Progress) -> Tensor:
        """The joint log probabilities (B, G, k) that are learned from, out of (B, G, K)."""
        return log_joint

    def _terms(self, batch: TrainingBatch) -> list[LossTerm]:
        predictions, targets = batch.predictions, batch.targets.with_a_slot()
        log_joint = self.log_joint(predictions, targets, self._bags(batch))
        positive = mean_max_loss(self.chosen(log_joint, batch.progress))
        negative = negative_bag_loss(
            predictions.class_logits,
            predictions.boxes,
            targets,
            iou_threshold=self.iou_threshold,
            gamma=self.gamma,
        )
        count = targets.valid.sum(dim=1).to(predictions.boxes.dtype)
        return [
            LossTerm("positive_bag_loss", torch.where(targets.valid, positive, 0) * self.alpha, count),
            LossTerm("negative_bag_loss", negative * (1 - self.alpha), count * self.bag),
        ]

    def _bags(self, batch: TrainingBatch) -> Bags:
        """Bags of all anchors, also of those beyond an image's own padding."""
        first = self.ties == "first"
        return anchor_bags(batch.predictions.points, batch.targets, None, size=self.bag, first=first)

    def log_joint(self, predictions: Predictions, targets: Targets, bags: Bags) -> Tensor:
        """log of P_cls * P_loc (B, G, K) for objects and the anchors of their bags; finite, arbitrary in empty slots.

        P_cls is the score of the object's class, P_loc = exp(-box_weight * smooth L1 of the deltas, summed).
        """
        assert predictions.deltas is not None
        assert predictions.delta_stds is not None
        classes = predictions.class_logits.shape[2]
        labels = targets.labels.masked_fill(~targets.valid, 0)
        cells = (bags.locations * classes + labels[..., None]).flatten(1)
        logits = predictions.class_logits.flatten(1).gather(1, cells).view_as(bags.locations)
        rows = bags.locations.flatten(1)[..., None].expand(-1, -1, 4)
        deltas = predictions.deltas.gather(1, rows).view(*bags.locations.shape, 4)
        anchors = predictions.points.anchors.to(deltas.dtype)[bags.locations]
        wanted = encode_deltas(anchors, targets.boxes[:, :, None], predictions.delta_stds)
        return F.logsigmoid(logits) - self.box_weight * smooth_l1(deltas - wanted, self.smooth_l1_beta).sum(dim=-1)


class FreeAnchor(BagCriterion):
    """Both losses of the paper over whole bags; its released code starts at a prior probability of 0.02."""

    kind: str = "free_anchor"


def mean_max_loss(log_joint: Tensor) -> Tensor:
    """-log of the mean-max over the last dimension of p = exp(``log_joint``): (..., K) -> (...).

    The mean-max is the mean of p with weights w = 1 / max(1 - p, 1e-12): the mean of small ones, the largest where
    one is near 1 (Zhang et al. 2019, section 3.3). Gradient flows through the weights too.

    It equals S / (S + R) with S = sum of w p and R = sum of w (1 - p), so its logarithm is a log sigmoid of
    log S - log R: nothing cancels, neither near p = 0 nor near 1.
    """
    miss = -torch.expm1(log_joint)
    weight = -miss.clamp(min=SMALLEST_MISS).log()
    hit = torch.logsumexp(weight + log_joint, dim=-1)
    rest = (miss / SMALLEST_MISS).clamp(max=1).sum(dim=-1)
    smallest = torch.finfo(log_joint.dtype).tiny
    return -F.logsigmoid(hit - rest.clamp(min=smallest).log())
