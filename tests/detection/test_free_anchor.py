"""FreeAnchor: both losses against plain loops, their limits, and what must never change them."""

import math
from dataclasses import replace

import pytest
import torch
from bag_scenes import gradients, image, predict, pyramid, scene, sums, with_targets
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.bags import anchor_bags
from tood.detection.boxes import DELTA_STDS, encode_deltas, pairwise_iou
from tood.detection.criteria.base import LossTerm
from tood.detection.criteria.free_anchor import FreeAnchor, mean_max_loss
from tood.detection.targets import Targets
from tood.detection.training_batch import TrainingBatch

FREE_ANCHOR = FreeAnchor(bag=12)
seeds = st.integers(0, 10_000)


def plain_losses(batch: TrainingBatch, *, bag: int, threshold: float = 0.6) -> tuple[Tensor, Tensor]:
    """Both sums of the paper's section 3.3 by loops over images, objects, anchors and classes, probabilities as is."""
    logits, deltas = batch.predictions.class_logits, batch.predictions.deltas
    anchors, boxes = batch.predictions.points.anchors, batch.predictions.boxes.detach()
    assert deltas is not None
    bags = anchor_bags(batch.predictions.points, batch.targets, None, size=bag)
    positive, negative = torch.zeros((), dtype=logits.dtype), torch.zeros((), dtype=logits.dtype)
    for b in range(len(logits)):
        matched = torch.zeros(logits.shape[1:], dtype=logits.dtype)
        for g in torch.nonzero(batch.targets.valid[b]).flatten().tolist():
            box, label = batch.targets.boxes[b, g], int(batch.targets.labels[b, g])
            members = bags.locations[b, g].tolist()  # zero overlaps tie, so sorting anew may choose others
            terms = []
            for j in members:
                error = (deltas[b, j] - encode_deltas(anchors[j], box, DELTA_STDS)).abs()
                smooth = torch.where(error < 0.11, 0.5 * error**2 / 0.11, error - 0.055)
                terms.append(logits[b, j, label].sigmoid() * torch.exp(-0.75 * smooth.sum()))
            p = torch.stack(terms)
            weight = 1 / (1 - p).clamp(min=1e-12)
            positive = positive - 0.5 * ((weight / weight.sum()) * p).sum().log()
            overlaps = pairwise_iou(box[None], boxes[b])[0]
            best = max(float(overlaps.max()), threshold + 1e-12)
            share = ((overlaps - threshold) / (best - threshold)).clamp(0, 1)
            matched[:, label] = torch.maximum(matched[:, label], share)
        q = logits[b].sigmoid() * (1 - matched)
        negative = negative - 0.5 * (q**2 * (1 - q).log()).sum()
    return positive, negative


@settings(max_examples=15, deadline=None)
@given(seed=seeds, objects=st.integers(1, 5))
def test_both_losses_and_gradients_are_those_of_plain_loops(seed: int, objects: int) -> None:
    batch = scene(seed, objects=objects, points=pyramid(((3, 4), (2, 2))))
    assert batch.predictions.deltas is not None
    terms = FREE_ANCHOR(batch)
    expected = plain_losses(batch, bag=12)
    for term, plain in zip(terms, expected, strict=True):
        torch.testing.assert_close(term.per_location.sum(), plain)
    leaves = (batch.predictions.class_logits, batch.predictions.deltas)
    plain_gradients = torch.autograd.grad(expected[0] + expected[1], leaves)
    for ours, plain in zip(gradients(FREE_ANCHOR, batch), plain_gradients, strict=True):
        torch.testing.assert_close(ours, plain)


def test_divisors_are_objects_and_anchors_in_bags() -> None:
    positive, negative = FREE_ANCHOR(scene(objects=4))
    assert (positive.name, negative.name) == ("positive_bag_loss", "negative_bag_loss")
    assert (float(positive.normaliser.sum()), positive.floor, positive.epsilon) == (7, 1, 0)
    assert (float(negative.normaliser.sum()), negative.floor, negative.epsilon) == (7 * 12, 1, 0)


def test_mean_max_is_the_mean_of_small_and_the_largest_of_large_probabilities() -> None:
    small = torch.tensor([1e-6, 2e-6, 6e-6], dtype=torch.float64)
    torch.testing.assert_close(
        mean_max_loss(small.log()), -torch.tensor(3e-6, dtype=torch.float64).log(), rtol=1e-5, atol=0
    )
    large = torch.tensor([0.1, 0.4, 1 - 1e-9], dtype=torch.float64)
    assert 0 < mean_max_loss(large.log()) < 1e-8
    assert mean_max_loss(torch.tensor([-3.0])) == 3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-50, -1e-6), min_size=1, max_size=8))
def test_mean_max_lies_between_mean_and_largest(values: list[float]) -> None:
    log_p = torch.tensor(values, dtype=torch.float64)
    loss = float(mean_max_loss(log_p))
    mean = float(log_p.exp().mean().log())
    assert -max(values) - 1e-9 <= loss <= -mean + 1e-9


def test_gradient_flows_through_the_weights_of_the_mean_max() -> None:
    values = torch.tensor([-0.3, -1.0, -4.0], dtype=torch.float64)
    log_p = values.clone().requires_grad_()
    (ours,) = torch.autograd.grad(mean_max_loss(log_p), log_p)
    p = values.exp().requires_grad_()
    weight = 1 / (1 - p)
    (plain,) = torch.autograd.grad(-((weight / weight.sum()) * p).sum().log(), p)
    torch.testing.assert_close(ours, plain * p.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "values",
    [[0.0], [0.0, 0.0], [0.0, -1e-20], [0.0, -1e30], [-1e4, -2e4], [-1e30, -1e30], [-1e-13, -1e-13, -200.0]],
)
def test_mean_max_is_finite_at_certainty_and_at_nothing(values: list[float], dtype: torch.dtype) -> None:
    log_p = torch.tensor(values, dtype=dtype, requires_grad=True)
    loss = mean_max_loss(log_p)
    loss.backward()
    assert log_p.grad is not None
    assert loss.isfinite()
    assert log_p.grad.isfinite().all()
    assert loss >= 0
    if max(values) == 0:
        assert loss < 1e-6
    if max(values) < -100:
        assert log_p.grad.sum() < -0.99


def test_boxes_learn_from_the_positive_loss_alone() -> None:
    batch = scene()
    _, negative = FREE_ANCHOR(batch)
    assert batch.predictions.deltas is not None
    (by_deltas,) = torch.autograd.grad(negative.per_location.sum(), batch.predictions.deltas, allow_unused=True)
    assert by_deltas is None
    _, by_deltas = gradients(FREE_ANCHOR, batch)
    reached = by_deltas.abs().sum(dim=2) > 0
    assert 12 <= reached[0].sum() <= 4 * 12


@settings(max_examples=15, deadline=None)
@given(seed=seeds, order=st.permutations(range(4)))
def test_the_order_of_objects_does_not_matter(seed: int, order: list[int]) -> None:
    batch = scene(seed)
    t = batch.targets
    turned = with_targets(batch, t.boxes[:, order], t.labels[:, order], t.valid[:, order])
    assert_same(batch, turned)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, label=st.sampled_from([-1, 0, 2, 99]), coordinate=st.sampled_from([0.0, -50.0, 1e6]))
def test_what_empty_slots_hold_does_not_matter(seed: int, label: int, coordinate: float) -> None:
    batch = scene(seed)
    t = batch.targets
    boxes = torch.cat([t.boxes, torch.full((2, 2, 4), coordinate, dtype=t.boxes.dtype)], dim=1)
    labels = torch.cat([t.labels, torch.full((2, 2), label)], dim=1)
    padded = with_targets(batch, boxes, labels, torch.cat([t.valid, torch.zeros(2, 2, dtype=torch.bool)], dim=1))
    assert_same(batch, padded)


def assert_same(first: TrainingBatch, second: TrainingBatch) -> None:
    one, other = sums(FREE_ANCHOR(first)), sums(FREE_ANCHOR(second))
    for name in one:
        torch.testing.assert_close(one[name], other[name])
    for ours, theirs in zip(gradients(FREE_ANCHOR, first), gradients(FREE_ANCHOR, second), strict=True):
        torch.testing.assert_close(ours, theirs)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_images_do_not_know_of_each_other(seed: int) -> None:
    batch = scene(seed)
    together = gradients(FREE_ANCHOR, batch)
    for index in range(2):
        for whole, alone in zip(together, gradients(FREE_ANCHOR, image(batch, index)), strict=True):
            torch.testing.assert_close(whole[index : index + 1], alone)


EXTREMES = {
    "no objects": lambda t: replace(t, valid=torch.zeros_like(t.valid)),
    "no slots": lambda t: Targets(t.boxes[:, :0], t.labels[:, :0], t.valid[:, :0]),
    "boxes of no area": lambda t: replace(t, boxes=torch.cat([t.boxes[..., :2], t.boxes[..., :2]], dim=-1)),
    "equal objects": lambda t: replace(t, boxes=t.boxes[:, :1].expand(-1, 4, -1)),
    "as they are": lambda t: t,
}


@pytest.mark.parametrize("case", EXTREMES)
@pytest.mark.parametrize("logit", [0.0, 30.0, -30.0, 200.0, -200.0, 1e4, -1e4])
@pytest.mark.parametrize("delta", [0.0, 100.0, 1e10])
def test_losses_and_gradients_are_finite_for_any_input(case: str, logit: float, delta: float) -> None:
    batch = scene(points=pyramid(dtype=torch.float32))
    targets = EXTREMES[case](batch.targets)
    shape = batch.predictions.class_logits.shape
    deltas = torch.full((*shape[:2], 4), delta)
    predictions = predict(batch.predictions.points, torch.full(shape, logit), deltas)
    batch = replace(batch, predictions=predictions, targets=targets)
    terms = FREE_ANCHOR(batch)
    assert all(term.per_location.isfinite().all() for term in terms)
    by_logits, by_deltas = gradients(FREE_ANCHOR, batch)
    assert by_logits.isfinite().all()
    assert by_deltas.isfinite().all()
    if case in ("no objects", "no slots"):
        assert by_deltas.abs().max() == 0
        assert [float(term.normaliser.sum()) for term in terms] == [0, 0]
    if logit > 0 and delta == 0 and case == "no objects":
        # A false alarm costs about its logit, however sure it is, and always has a gradient.
        torch.testing.assert_close(terms[1].per_location, torch.full(shape[:2], 0.5 * shape[2] * logit))
        assert by_logits.min() == pytest.approx(0.5)


def test_perfect_predictions_cost_nothing() -> None:
    points = pyramid(dtype=torch.float32)
    anchor = points.anchors[40]
    logits, deltas = torch.full((1, len(points.anchors), 2), -200.0), torch.zeros(1, len(points.anchors), 4)
    logits[0, 40, 1] = 200
    targets = Targets(anchor[None, None], torch.tensor([[1]]), torch.ones(1, 1, dtype=torch.bool))
    batch = replace(scene(images=1, points=points), predictions=predict(points, logits, deltas), targets=targets)
    assert all(float(total.detach()) < 1e-6 for total in sums(FREE_ANCHOR(batch)).values())
    assert all(gradient.isfinite().all() for gradient in gradients(FREE_ANCHOR, batch))


def test_a_step_does_not_assign() -> None:
    class NeverAssigns(FreeAnchor):
        def assign(self, batch: TrainingBatch) -> Assignment:
            raise AssertionError

    batch = scene()
    ours, expected = NeverAssigns(bag=12)(batch), FREE_ANCHOR(batch)
    assert all(torch.equal(a.per_location, b.per_location) for a, b in zip(ours, expected, strict=True))


def test_losses_do_not_depend_on_the_assignment() -> None:
    batch = scene()
    nowhere = FREE_ANCHOR.assign(image(scene(1), 0))
    ours: list[LossTerm] = FREE_ANCHOR.losses(batch, nowhere)
    assert sums(ours) == sums(FREE_ANCHOR(batch))


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_an_object_is_reported_at_the_likeliest_anchor_of_its_bag(seed: int) -> None:
    batch = scene(seed, objects=3)
    assert batch.predictions.deltas is not None
    found = FREE_ANCHOR.assign(batch)
    logits, points = batch.predictions.class_logits.detach(), batch.predictions.points
    bags = anchor_bags(points, batch.targets, None, size=12)
    wanted: dict[tuple[int, int], tuple[float, int]] = {}
    for b in range(2):
        for g in torch.nonzero(batch.targets.valid[b]).flatten().tolist():
            box, label = batch.targets.boxes[b, g], int(batch.targets.labels[b, g])
            bag = bags.locations[b, g]
            error = (batch.predictions.deltas.detach()[b, bag] - encode_deltas(points.anchors[bag], box)).abs()
            smooth = torch.where(error < 0.11, 0.5 * error**2 / 0.11, error - 0.055).sum(dim=1)
            joint = logits[b, bag, label].sigmoid() * (-0.75 * smooth).exp()
            place = (b, int(bag[joint.argmax()]))
            wanted[place] = max(wanted.get(place, (-1.0, -1)), (float(joint.max()), g))
    expected = torch.full_like(found.gt_index, -1)
    for place, (joint, g) in wanted.items():
        expected[place] = g
        assert float(found.metric[place]) == pytest.approx(joint)
    assert torch.equal(found.gt_index, expected)
    assert torch.equal(found.target, found.positive.to(found.target.dtype))
    assert (found.metric[~found.positive] == 0).all()
    assert (found.iou[~found.positive] == 0).all()


@pytest.mark.parametrize("winner", [0, 1])
def test_an_anchor_that_leads_two_bags_counts_for_the_likelier_object(winner: int) -> None:
    points = pyramid()
    shape = (1, len(points.anchors))
    logits = torch.full((*shape, 2), -8.0, dtype=torch.float64)
    logits[0, 40, winner], logits[0, 40, 1 - winner] = 3, 1
    targets = Targets(points.anchors[40].expand(1, 2, 4), torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool))
    predictions = predict(points, logits, torch.zeros(*shape, 4, dtype=torch.float64))
    found = FREE_ANCHOR.assign(replace(scene(images=1), predictions=predictions, targets=targets))
    assert found.gt_index[0, 40] == winner
    assert found.positive.sum() == 1
    assert float(found.metric[0, 40]) == pytest.approx(1 / (1 + math.exp(-3)))
    assert float(found.iou[0, 40]) == pytest.approx(1)
