"""NoisyAnchor's criterion on RetinaNet: soft labels and weights by cleanliness (Li et al. 2020, arXiv 1912.05086)."""

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from tood.config.base import PositiveFloat, PositiveInt, Share
from tood.config.parts import HeadOutput, Over
from tood.detection.assigners.assignment import Assignment, chunk_length, elements_at_once, prior_assignment
from tood.detection.assigners.bags import anchor_bags
from tood.detection.boxes import EPSILON, aligned_iou, box_area, rows_iou
from tood.detection.criteria.base import Criterion, LossTerm, Running
from tood.detection.criteria.class_terms import class_terms
from tood.detection.criteria.matching import delta_errors, match
from tood.detection.losses import smooth_l1
from tood.detection.points import Points
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets
from tood.detection.training_batch import TrainingBatch


class NoisyAnchor(Criterion):
    """Soft labels and re-weighted losses, both by how clean an anchor is: its predicted overlap and its score.

    From the released code: the numbers below, means over the positives of an image, soft labels spread between
    the mean overlap and 1, f(x) = 1 / (1 - x) over its mean, classification rows (negatives too) and box losses
    multiplied by r and scaled back to their sum, and the running divisor. From the paper: r as a power ``gamma``
    of the mixture; its value could not be found, and 1 is what the code does. Different here: sums are kept for
    each image, instead of for each process's batch; an anchor listed by several objects counts once in a mean; an
    anchor that overlaps no object is never positive.
    """

    kind: str = "noisy_anchor"
    topn: PositiveInt = Field(30, description="Anchors of largest overlap that are positive, for each object.")
    alpha: Share = Field(0.75, description="Share of localisation in how clean an anchor is; the score has the rest.")
    gamma: float = Field(1.0, ge=0.0, description="Exponent of the re-weighting.")
    box_weight: PositiveFloat = 1.0
    smooth_l1_beta: PositiveFloat = Field(0.1, description="Where the box loss turns linear, in deltas.")
    focal_alpha: Share = 0.5
    focal_gamma: float = Field(2.0, ge=0.0)
    momentum: float = Field(0.9, ge=0.0, lt=1.0, description="Of the running number of positives that divides.")
    initial: PositiveFloat = Field(100.0, description="That number, of a group, before the first step.")

    @property
    def over(self) -> Over:
        return "group"

    @property
    def needs(self) -> frozenset[HeadOutput]:
        return frozenset({"deltas"})

    @property
    def several_anchors(self) -> bool:
        return True

    def assign(self, batch: TrainingBatch) -> Assignment:
        predictions = batch.predictions
        assignment = assign_largest_overlaps(predictions.points, batch.targets, batch.valid, topn=self.topn)
        loc, cls = cleanliness(predictions, batch.targets, assignment)
        return replace(assignment, target=soft_labels(loc, cls, assignment.positive, alpha=self.alpha))

    def losses(self, batch: TrainingBatch, assignment: Assignment) -> list[LossTerm]:
        predictions, positive = batch.predictions, assignment.positive
        matched = match(assignment, batch.targets)
        loc, cls = cleanliness(predictions, batch.targets, assignment)
        weight = anchor_weights(loc, cls, positive, alpha=self.alpha, gamma=self.gamma)
        alpha, gamma, soft = self.focal_alpha, self.focal_gamma, assignment.target
        terms = class_terms(predictions, matched.labels, positive, gamma=gamma)
        own = noisy_focal_loss(terms.log_hit, terms.log_miss, soft, alpha=alpha, gamma=gamma)
        classification = (1 - alpha) * terms.background + torch.where(positive, own, 0)
        classification = classification * assignment.counted(batch.valid)
        box = smooth_l1(delta_errors(predictions, matched), self.smooth_l1_beta).sum(dim=2) * self.box_weight
        count = positive.sum(dim=1).to(box.dtype)
        running = Running(momentum=self.momentum, initial=self.initial)
        return [
            LossTerm("loss_cls", classification * keep_image_sums(weight, classification), count, running=running),
            LossTerm("loss_bbox", box * keep_image_sums(weight, box) * positive, count, running=running),
        ]


@torch.no_grad()
def assign_largest_overlaps(
    points: Points, targets: Targets, valid: Tensor, *, topn: int, dense_elements: int | None = None
) -> Assignment:
    """Every object's ``topn`` anchors of largest overlap are positive, of the object that they overlap most.

    That object need not be one that listed the anchor; of equal overlaps the lower index counts. Anchors that
    overlap nothing or are not ``valid`` (B, N) are never positive; all others are background. The dense parts are
    done in pieces of at most ``dense_elements``, by default what suits the device.
    """
    targets = targets.with_a_slot()
    if dense_elements is None:
        dense_elements = elements_at_once(valid.device)
    bags = anchor_bags(points, targets, valid, size=topn, dense_elements=dense_elements)
    listed = bags.locations.flatten(1)
    anchors = points.anchors.to(targets.boxes.dtype)[listed]
    sides, areas = anchors.transpose(1, 2).contiguous(), box_area(anchors)
    best, owner = torch.zeros_like(areas), torch.full_like(listed, -1)
    step = chunk_length(listed.shape[0], listed.shape[1], dense_elements)
    for start in range(0, targets.boxes.shape[1], step):
        boxes, exists = targets.boxes[:, start : start + step], targets.valid[:, start : start + step]
        overlap, index = (rows_iou(boxes, sides, areas) * exists[..., None]).max(dim=1)
        owner = torch.where(overlap > best, index + start, owner)
        best = torch.maximum(best, overlap)
    # Several objects and empty slots may list a location; all of them have the same owner for it.
    owner = torch.where((bags.iou > 0).flatten(1), owner, -1)
    nobody = torch.full_like(valid, -1, dtype=torch.int64)
    return prior_assignment(points, targets, nobody.scatter_reduce(1, listed, owner, "amax"))


@torch.no_grad()
def cleanliness(predictions: Predictions, targets: Targets, assignment: Assignment) -> tuple[Tensor, Tensor]:
    """Overlap of the predicted box with the anchor's object and score of its class; (B, N), arbitrary elsewhere."""
    boxes, labels = targets.with_a_slot().take(assignment.gt_index)
    labels = torch.where(assignment.positive, labels, 0)[..., None]
    own_class = replace(predictions, class_logits=predictions.class_logits.gather(2, labels))
    return aligned_iou(predictions.boxes, boxes), own_class.scores().squeeze(2)


@torch.no_grad()
def soft_labels(loc: Tensor, cls: Tensor, positive: Tensor, *, alpha: float) -> Tensor:
    """Soft labels of positives: 1 for the cleanest of an image, its mean overlap for the least clean; (B, N).

    In between linear in the mixture of overlap and score, each over its mean. If all are equally clean they are all
    1, so that a single positive has a full label; 0 for negatives.
    """
    clean = alpha * _over_mean(loc, positive) + (1 - alpha) * _over_mean(cls, positive)
    least = torch.where(positive, clean, torch.inf).amin(dim=1, keepdim=True)
    most = torch.where(positive, clean, -torch.inf).amax(dim=1, keepdim=True)
    share = torch.where(most > least, (clean - least) / (most - least), 1)
    lowest = _mean(loc, positive).clamp(max=1)
    return torch.where(positive, lowest + (1 - lowest) * share, 0)


@torch.no_grad()
def anchor_weights(loc: Tensor, cls: Tensor, positive: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """r (B, N): mixture of f(overlap) and f(score), each over its mean in the image, to a power; 1 for negatives.

    f(x) = 1 / (1 - x) is kept below 1e6, which it exceeds where a box or a score is perfect.
    """
    by_loc, by_cls = (_over_mean(1 / (1 - value).clamp(min=EPSILON), positive) for value in (loc, cls))
    return torch.where(positive, (alpha * by_loc + (1 - alpha) * by_cls).pow(gamma), 1)


@torch.no_grad()
def keep_image_sums(weight: Tensor, loss: Tensor) -> Tensor:
    """``weight`` scaled so that it leaves each image's sum of ``loss`` as it is: (B, N) each, nothing negative."""
    before, after = loss.sum(dim=1, keepdim=True), (loss * weight).sum(dim=1, keepdim=True)
    return weight * torch.where(after > 0, before / after, 1)


def noisy_focal_loss(log_hit: Tensor, log_miss: Tensor, soft: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """-y a (1 - p)^g ln p - (1 - y) (1 - a) p^g ln(1 - p) of soft labels y, elementwise; focal loss where y is 0 or 1.

    Given as log p, log(1 - p) and y.
    """
    hit = -alpha * (gamma * log_miss).exp() * log_hit
    miss = -(1 - alpha) * (gamma * log_hit).exp() * log_miss
    return torch.lerp(miss, hit, soft)


def _mean(value: Tensor, positive: Tensor) -> Tensor:
    """(B, 1) over the positives, 0 without any."""
    count = positive.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(positive, value, 0).sum(dim=1, keepdim=True) / count


def _over_mean(value: Tensor, positive: Tensor) -> Tensor:
    return value / _mean(value, positive).clamp(min=torch.finfo(value.dtype).tiny)
