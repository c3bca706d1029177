"""Probabilistic anchor assignment (PAA; Kim & Lee 2020) by a Gaussian mixture over losses, and its loss terms."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.linalg import vecdot

from tood.config.base import PositiveFloat, PositiveInt, Share
from tood.config.parts import HeadOutput, Over
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.max_iou import MaxIouAssigner
from tood.detection.boxes import aligned_iou
from tood.detection.criteria.base import DIVISOR_EPSILON, Criterion, LossTerm
from tood.detection.criteria.matching import Matched, boxes_or_target, focal_losses, match
from tood.detection.losses import binary_cross_entropy, giou_loss
from tood.detection.points import Points
from tood.detection.predictions import Predictions
from tood.detection.training_batch import TrainingBatch

MAX_ITERATIONS = 100
TOLERANCE = 1e-3
"""The mixture has converged when the mean log-likelihood changes by less."""
VARIANCE_FLOOR = 1e-6
"""Added to every estimated variance."""
SAME_LIKELIHOOD = 1e-7
"""Log-likelihoods closer than this are equal up to rounding."""


class Paa(Criterion):
    """Positives are what a mixture of two Gaussians over candidate losses separates (PAA section 3).

    Works on any head. With a quality logit, that is trained to be the IoU of the predicted box, and the box loss is
    weighted by that IoU; without (the paper's "PAA" beside "PAA + IoU pred.") every positive weighs the same.

    A mixture needs two candidates, and its component 0 may win none of them: the authors' code then takes all of an
    object's candidates, which is the default; MMDetection takes none. Otherwise only candidates of component 0 are
    positive, as in the paper's scheme (c); the authors' code adds those of component 1 that cost less than others.
    """

    kind: str = "paa"
    positive_iou: Share = Field(0.1, description="Overlap from which an anchor is a candidate of its object.")
    topk: PositiveInt = Field(9, description="Candidates of least loss kept per object and level.")
    unfitted: Literal["positive", "background"] = Field(
        "positive", description="Candidates of an object without a mixture, or whose component 0 is empty."
    )
    box_weight: PositiveFloat = 1.3
    quality_weight: PositiveFloat = 0.5
    focal_alpha: Share = 0.25
    focal_gamma: float = Field(2.0, ge=0.0)

    @property
    def over(self) -> Over:
        return "group"

    @property
    def trains(self) -> frozenset[HeadOutput]:
        return frozenset({"quality"})

    @property
    def several_anchors(self) -> bool:
        return True

    def assign(self, batch: TrainingBatch) -> Assignment:
        """The second stage; overlaps are those of the predicted boxes, the metric is the candidate's loss."""
        first = self.first_stage(batch)
        targets = batch.targets.with_a_slot()
        boxes, labels = targets.take(first.gt_index)
        cost = self.candidate_losses(batch.predictions, boxes, labels)
        locations, counted = least_of_each_level(
            cost, first.gt_index, batch.predictions.points, num_objects=targets.boxes.shape[1], topk=self.topk
        )
        chosen = separate(cost.gather(1, locations.flatten(1)).view_as(locations), counted, unfitted=self.unfitted)
        length = cost.shape[1]
        slots = torch.where(chosen, locations, length).flatten(1)
        positive = batch.valid.new_zeros(len(cost), length + 1).scatter(1, slots, True)[:, :length]
        iou = aligned_iou(batch.predictions.boxes, boxes)
        return Assignment(
            gt_index=torch.where(positive, first.gt_index, -1),
            iou=torch.where(positive, iou, 0),
            metric=torch.where(positive, cost, 0),
            target=positive.to(iou.dtype),
        )

    def first_stage(self, batch: TrainingBatch) -> Assignment:
        """Candidates: each anchor belongs to the object it overlaps most, if by ``positive_iou``."""
        return MaxIouAssigner(positive=self.positive_iou, negative=self.positive_iou).assign(batch)

    @torch.no_grad()
    def candidate_losses(self, predictions: Predictions, boxes: Tensor, labels: Tensor) -> Tensor:
        """(B, N) the loss of every location as a positive of boxes (B, N, 4) and classes (B, N).

        The focal loss summed over classes, plus the weighted GIoU loss.
        """
        everywhere = torch.ones_like(labels, dtype=torch.bool)
        matched = Matched(everywhere, boxes, labels.clamp(0, predictions.class_logits.shape[2] - 1))
        classification = focal_losses(predictions, matched, alpha=self.focal_alpha, gamma=self.focal_gamma)
        return classification + self.box_weight * giou_loss(predictions.boxes, boxes)

    def losses(self, batch: TrainingBatch, assignment: Assignment) -> list[LossTerm]:
        """Loss terms: classes are divided by Npos (at least the number of images), boxes by the sum of IoU."""
        predictions = batch.predictions
        matched = match(assignment, batch.targets)
        count = assignment.positive.sum(dim=1).to(predictions.boxes.dtype)
        classification = focal_losses(predictions, matched, alpha=self.focal_alpha, gamma=self.focal_gamma)
        classification = classification * assignment.counted(batch.valid)
        box = giou_loss(boxes_or_target(predictions.boxes, matched), matched.boxes) * self.box_weight
        terms = [LossTerm("loss_cls", classification, count, floor=float(batch.images), epsilon=DIVISOR_EPSILON)]
        if predictions.quality is None:
            return [*terms, LossTerm("loss_bbox", box * matched.positive, count, epsilon=DIVISOR_EPSILON)]
        iou = assignment.iou
        quality = binary_cross_entropy(predictions.quality, iou) * matched.positive * self.quality_weight
        return [
            *terms,
            LossTerm("loss_bbox", box * iou, iou.sum(dim=1), floor=0.0, epsilon=DIVISOR_EPSILON),
            LossTerm("loss_iou", quality, count, epsilon=DIVISOR_EPSILON),
        ]


def least_of_each_level(
    cost: Tensor, owner: Tensor, points: Points, *, num_objects: int, topk: int
) -> tuple[Tensor, Tensor]:
    """Every object's ``topk`` locations of least cost on each level, M in all.

    ``cost`` (B, N); ``owner`` (B, N) the object that a location belongs to, -1 for none. Returns locations (B, G, M)
    and whether there is one (B, G, M); where there is none, the location is 0. Of equal costs the first is taken.
    """
    images, length = cost.shape
    levels = len(points.level_counts)
    level = [torch.full((n,), i, device=cost.device) for i, n in enumerate(points.level_counts)]
    groups = num_objects * levels
    group = torch.where(owner >= 0, owner * levels + torch.cat(level), groups)
    # Sorted by group and within it by cost, a location's rank in its group is a difference of positions.
    order = torch.where(owner >= 0, cost, torch.inf).argsort(dim=1, stable=True)
    order = order.gather(1, group.gather(1, order).argsort(dim=1, stable=True))
    group = group.gather(1, order)
    size = group.new_zeros(images, groups + 1).scatter_add(1, group, torch.ones_like(group))
    place = torch.arange(length, device=cost.device) - (size.cumsum(dim=1) - size).gather(1, group)
    slot = torch.where((place < topk) & (group < groups), group * topk + place, groups * topk)
    found = order.new_full((images, groups * topk + 1), -1).scatter(1, slot, order)[:, :-1]
    found = found.view(images, num_objects, levels * topk)
    return found.clamp(min=0), found >= 0


def separate(losses: Tensor, counted: Tensor, *, unfitted: Literal["positive", "background"] = "positive") -> Tensor:
    """Which candidates of objects are positive, (..., M) bool, from losses (..., M) of those ``counted`` (..., M).

    Positive are those that belong to component 0 of the mixture and cost no more than the likeliest of them (the
    paper's scheme (c)); of several equally likely ones the last counts.
    """
    losses = torch.where(counted, losses.double(), 0)
    log_shares = mixture(losses, counted)
    first = counted & (log_shares[0] >= log_shares[1])
    likelihood = torch.logaddexp(log_shares[0], log_shares[1])
    likelihood = torch.where(first, likelihood, -torch.inf)
    likeliest = first & (likelihood >= likelihood.amax(dim=-1, keepdim=True) - SAME_LIKELIHOOD)
    limit = torch.where(likeliest, losses, -torch.inf).amax(dim=-1, keepdim=True)
    fitted = (counted.sum(dim=-1, keepdim=True) > 1) & first.any(dim=-1, keepdim=True)
    otherwise = counted if unfitted == "positive" else torch.zeros_like(counted)
    return torch.where(fitted, first & (losses <= limit), otherwise)


def mixture(values: Tensor, counted: Tensor) -> Tensor:
    """Log densities (2, ..., M) of float64 ``values`` (..., M) under two weighted Gaussians, fitted to each row alone.

    Expectation maximisation over the ``counted`` values of a row, from the weights 1/2 and 1/2, the means least and
    largest value, and variances 1. A row stops after the step whose mean log-likelihood differs from that of the step
    before by less than the tolerance; it then waits for the others, and no step asks the device how many there are.
    float64, because a component may settle on values that differ by 1e-3 of what they are.
    """
    inside = counted.to(values.dtype)
    least = torch.where(counted, values, torch.inf).amin(dim=-1, keepdim=True)
    values = torch.where(
        counted, values - least, 0
    )  # densities depend on differences only, and squares of large values would cancel
    moments = torch.stack([inside, values, values.square()]).unsqueeze(1)
    count = inside.sum(dim=-1).clamp(min=1)
    largest = values.amax(dim=-1)
    mean = torch.stack([torch.zeros_like(largest), largest])
    terms = _log_density(torch.full_like(mean, 0.5), mean, torch.ones_like(mean))
    before = torch.full_like(count, -torch.inf)
    moving = torch.ones_like(count, dtype=torch.bool)
    smallest = 10 * torch.finfo(values.dtype).eps
    for _ in range(MAX_ITERATIONS):
        log_shares = _evaluate(terms, values)
        likelihood = torch.logaddexp(log_shares[0], log_shares[1])
        shares = (log_shares - likelihood).exp()
        mass, first, second = vecdot(shares, moments)
        mass = mass + smallest
        mean = first / mass
        variance = (second / mass - mean.square()).clamp(min=0) + VARIANCE_FLOOR
        terms = torch.where(moving, _log_density(mass / mass.sum(dim=0), mean, variance), terms)
        bound = vecdot(likelihood, inside) / count
        moving = moving & ((bound - before).abs() >= TOLERANCE)
        before = bound
    return _evaluate(terms, values)


def _log_density(weight: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Coefficients (3, ...) of log(weight * normal density) as a polynomial of degree 2, the constant first."""
    slope = mean / variance
    constant = (weight.square() / (2 * math.pi * variance)).log() / 2 - mean * slope / 2
    return torch.stack([constant, slope, -0.5 / variance])


def _evaluate(terms: Tensor, values: Tensor) -> Tensor:
    """Polynomials (3, 2, ...) at values (..., M): (2, ..., M)."""
    constant, slope, curvature = terms.unsqueeze(-1)
    return torch.addcmul(constant, torch.addcmul(slope, curvature, values), values)
