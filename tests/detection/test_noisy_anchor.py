"""Noisy anchors: samples, soft labels and weights against plain loops, by hand, and at the extremes."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from retina_scenes import NOTHING, STDS, batch_of, gradients, grid, losses_of, predictions_of, scene, with_predictions

from tood.detection.boxes import EPSILON, aligned_iou, encode_deltas, pairwise_iou
from tood.detection.criteria.base import Running
from tood.detection.criteria.matching import delta_errors, match
from tood.detection.criteria.noisy_anchor import (
    NoisyAnchor,
    anchor_weights,
    assign_largest_overlaps,
    cleanliness,
    keep_image_sums,
    noisy_focal_loss,
    soft_labels,
)
from tood.detection.losses import focal_loss, smooth_l1
from tood.detection.points import AnchorShapes, Points, make_points
from tood.detection.targets import Targets

# --- which anchors


def untied(points: Points) -> Points:
    """Anchors moved a little: on the grid all that an object lies within overlap it equally."""
    moves = torch.randn(points.anchors.shape, generator=torch.Generator().manual_seed(9), dtype=points.anchors.dtype)
    return replace(points, anchors=points.anchors + 0.1 * moves)


@given(st.integers(0, 2**31), st.sampled_from([1, 7, 30, 10_000]), st.sampled_from([1, 5_000, 1 << 24]))
@settings(max_examples=25, deadline=None)
def test_samples_equal_a_plain_loop(seed: int, topn: int, dense_elements: int) -> None:
    batch = scene(seed)
    points, targets = untied(batch.predictions.points), batch.targets
    found = assign_largest_overlaps(points, targets, batch.valid, topn=topn, dense_elements=dense_elements)
    for image, valid in enumerate(batch.valid):
        boxes = targets.boxes[image][targets.valid[image]]
        iou = pairwise_iou(boxes, points.anchors) * valid
        expected = torch.full((len(points.anchors),), -1)
        for own in iou:
            for place in own.argsort(descending=True, stable=True)[:topn].tolist():
                if own[place] > 0:
                    expected[place] = iou[:, place].argmax()
        assert torch.equal(found.gt_index[image], expected)
    assert found.ignored is None
    assert not (found.positive & ~batch.valid).any()


def test_an_anchor_belongs_to_the_object_it_overlaps_most_even_if_that_has_better_ones() -> None:
    """The second object's best anchor overlaps the first more, which lists another: it is a sample of the first."""
    points = make_points(((1, 3),), (8,), torch.device("cpu"), torch.float64, AnchorShapes(scale=2.0))
    # Anchors of 16 px side by side, 8 px apart, the first of which is the first object.
    boxes = torch.tensor([[[-8.0, -8.0, 8.0, 8.0], [-2.0, 7.0, 14.0, 23.0]]], dtype=torch.float64)
    targets = Targets(boxes, torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool))
    everywhere = torch.ones(1, 3, dtype=torch.bool)
    iou = pairwise_iou(boxes[0], points.anchors)
    assert iou[1].argmax() == 1
    assert iou[0, 1] > iou[1, 1] > 0
    found = assign_largest_overlaps(points, targets, everywhere, topn=1)
    assert found.gt_index.tolist() == [[0, 0, -1]]
    torch.testing.assert_close(found.iou, torch.tensor([[1.0, 1 / 3, 0.0]], dtype=torch.float64))


def test_of_two_objects_in_one_place_the_first_has_the_samples() -> None:
    batch = scene(images=1, objects=1)
    points, t = batch.predictions.points, batch.targets
    twice = Targets(*(value.repeat_interleave(2, dim=1) for value in (t.boxes, t.labels, t.valid)))
    expected = assign_largest_overlaps(points, t, batch.valid, topn=30)
    for dense_elements in (1, 1 << 24):
        found = assign_largest_overlaps(points, twice, batch.valid, topn=30, dense_elements=dense_elements)
        assert torch.equal(found.gt_index, expected.gt_index)


def test_objects_that_no_anchor_overlaps_have_no_samples() -> None:
    points = grid()
    boxes = torch.tensor([[[500.0, 500.0, 520.0, 520.0], [10.0, 10.0, 10.0, 10.0]]], dtype=torch.float64)
    targets = Targets(boxes, torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool))
    valid = torch.ones(1, len(points.centres), dtype=torch.bool)
    assert not assign_largest_overlaps(points, targets, valid, topn=30).positive.any()


# --- soft labels and weights


def test_soft_labels_and_weights_by_hand() -> None:
    """Overlaps .8 .4 (mean .6), scores .1 .3 (mean .2): 0.75 * 4/3 + 0.25 / 2 = 1.125 and 0.5 + 0.375 = .875."""
    positive = torch.tensor([[True, False, True, True]])
    loc, cls = torch.tensor([[0.8, 0.9, 0.4, 0.6]]), torch.tensor([[0.1, 0.9, 0.3, 0.2]])
    # The third has 0.75 * 1 + 0.25 * 1 = 1, half-way between; the ends are 0.6 and 1.
    soft = soft_labels(loc, cls, positive, alpha=0.75)
    torch.testing.assert_close(soft, torch.tensor([[1.0, 0.0, 0.6, 0.8]]))
    # f: 5, 1.667, 2.5 with mean 3.0556; 1.1111, 1.4286, 1.25 with mean 1.2632.
    weights = anchor_weights(loc, cls, positive, alpha=0.75, gamma=1)
    torch.testing.assert_close(weights, torch.tensor([[1.44717, 1.0, 0.69182, 0.86101]]), rtol=1e-4, atol=0)
    squared = anchor_weights(loc, cls, positive, alpha=0.75, gamma=2)
    torch.testing.assert_close(squared, weights.square())


def test_boxes_that_all_miss_are_told_apart_by_score() -> None:
    loc, cls = torch.zeros(1, 3), torch.tensor([[0.2, 0.3, 0.6]])
    soft = soft_labels(loc, cls, torch.ones(1, 3, dtype=torch.bool), alpha=0.75)
    torch.testing.assert_close(soft, torch.tensor([[0.0, 0.25, 1.0]]))


def plain_soft_and_weights(loc: list[float], cls: list[float], alpha: float) -> tuple[list[float], list[float]]:
    n = len(loc)
    mean_loc, mean_cls = sum(loc) / n, sum(cls) / n
    clean = [alpha * a / mean_loc + (1 - alpha) * b / mean_cls for a, b in zip(loc, cls, strict=True)]
    spread = max(clean) - min(clean)
    soft = [mean_loc + (1 - mean_loc) * (value - min(clean)) / spread for value in clean]
    by_loc, by_cls = [1 / (1 - a) for a in loc], [1 / (1 - b) for b in cls]
    means = sum(by_loc) / n, sum(by_cls) / n
    return soft, [alpha * a / means[0] + (1 - alpha) * b / means[1] for a, b in zip(by_loc, by_cls, strict=True)]


@given(st.integers(0, 2**31), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_soft_labels_and_weights_equal_a_plain_loop(seed: int, alpha: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    loc, cls = 0.98 * torch.rand(2, 3, 25, generator=draw, dtype=torch.float64) + 0.01
    positive = torch.rand(3, 25, generator=draw) < 0.5
    positive[:, :2] = True
    soft = soft_labels(loc, cls, positive, alpha=alpha)
    weights = anchor_weights(loc, cls, positive, alpha=alpha, gamma=1)
    for image, own in enumerate(positive):
        expected = plain_soft_and_weights(loc[image][own].tolist(), cls[image][own].tolist(), alpha)
        torch.testing.assert_close(soft[image][own], torch.tensor(expected[0], dtype=torch.float64))
        torch.testing.assert_close(weights[image][own], torch.tensor(expected[1], dtype=torch.float64))
        torch.testing.assert_close(weights[image][own].mean(), torch.tensor(1.0, dtype=torch.float64))
    assert ((soft >= 0) & (soft <= 1)).all()
    assert not soft[~positive].any()
    assert (weights[~positive] == 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1e-30, 0.4, 1.0])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_equally_clean_anchors(count: int, value: float, dtype: torch.dtype) -> None:
    """No positive, a single one, several alike: labels 1 and weights 1, whatever the overlap and the score."""
    positive = torch.arange(5)[None] < count
    same = torch.full((1, 5), value, dtype=dtype)
    soft = soft_labels(same, same, positive, alpha=0.75)
    assert torch.equal(soft, positive.to(dtype))
    weights = anchor_weights(same, same, positive, alpha=0.75, gamma=1.0)
    torch.testing.assert_close(weights, torch.ones(1, 5, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_perfect_boxes_and_scores_stay_finite(dtype: torch.dtype) -> None:
    loc, cls = (
        torch.tensor([[1.0, 1 - EPSILON / 2, 0.5, 0.0]], dtype=dtype),
        torch.tensor([[1.0, 0, 1, 0]], dtype=dtype),
    )
    positive = torch.ones(1, 4, dtype=torch.bool)
    weights = anchor_weights(loc, cls, positive, alpha=0.75, gamma=1.0)
    assert weights.isfinite().all()
    assert all(first >= second for first, second in pairwise(weights[0, [0, 1, 3]].tolist()))
    torch.testing.assert_close(weights.mean(), torch.ones((), dtype=dtype))
    soft = soft_labels(loc, cls, positive, alpha=0.75)
    assert soft.argmax() == 0
    assert soft[0, 3] < soft[0, 2] < soft[0, 0] == 1


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_scaled_weights_keep_every_images_sum(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight, loss = torch.rand(2, 3, 20, generator=draw, dtype=torch.float64)
    loss[1] = 0
    scaled = keep_image_sums(weight, loss)
    torch.testing.assert_close((scaled * loss).sum(dim=1), loss.sum(dim=1))
    assert scaled.isfinite().all()
    assert torch.equal(keep_image_sums(torch.ones_like(weight), loss), torch.ones_like(weight))


def test_hard_labels_give_focal_loss_and_soft_ones_its_mixture() -> None:
    logits = torch.linspace(-8, 8, 41, dtype=torch.float64)
    log_hit, log_miss = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
    hard = torch.arange(41) % 2 == 0
    plain = focal_loss(log_hit, log_miss, hard, alpha=0.5, gamma=2.0)
    torch.testing.assert_close(noisy_focal_loss(log_hit, log_miss, hard.double(), alpha=0.5, gamma=2.0), plain)
    p, y = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    soft = noisy_focal_loss(p.log(), (1 - p).log(), y, alpha=0.5, gamma=2.0)
    by_hand = -0.8 * 0.5 * 0.49 * p.log() - 0.2 * 0.5 * 0.09 * (1 - p).log()
    torch.testing.assert_close(soft, by_hand)


# --- the criterion


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_losses_equal_a_plain_loop(seed: int) -> None:
    """Every number from its definition, one image and one sample at a time."""
    batch = scene(seed)
    predictions, targets = batch.predictions, batch.targets
    criterion = NoisyAnchor(topn=9, box_weight=1.3, alpha=0.6, focal_alpha=0.4)
    assignment = criterion.assign(batch)
    score, deltas = predictions.class_logits.sigmoid(), predictions.deltas
    assert deltas is not None
    classification, regression = [], []
    for image in range(2):
        places = assignment.positive[image].nonzero()[:, 0].tolist()
        owners = [int(assignment.gt_index[image, place]) for place in places]
        labels = [int(targets.labels[image, owner]) for owner in owners]
        boxes = [targets.boxes[image, owner] for owner in owners]
        loc = [
            float(aligned_iou(predictions.boxes[image, p], box).detach()) for p, box in zip(places, boxes, strict=True)
        ]
        cls = [float(score[image, place, label].detach()) for place, label in zip(places, labels, strict=True)]
        soft, weights = plain_soft_and_weights(loc, cls, 0.6)
        torch.testing.assert_close(assignment.target[image, places], torch.tensor(soft, dtype=torch.float64))
        rows, weighted, errors = [], [], []
        for place in batch.valid[image].nonzero()[:, 0].tolist():
            index = places.index(place) if place in places else None
            row = score.new_zeros(())
            for name, p in enumerate(score[image, place]):
                y = soft[index] if index is not None and name == labels[index] else 0.0
                row = row - y * 0.4 * (1 - p) ** 2 * p.log() - (1 - y) * 0.6 * p**2 * (1 - p).log()
            rows.append(row)
            weighted.append(row if index is None else row * weights[index])
        for place, box in zip(places, boxes, strict=True):
            error = (deltas[image, place] - encode_deltas(predictions.points.anchors[place], box, STDS)).abs()
            errors.append(1.3 * torch.where(error < 0.1, error.square() / 0.2, error - 0.05).sum())
        before, after = torch.stack(rows).sum(), torch.stack(weighted).sum()
        classification.append(after * (before / after).detach())
        plain, heavy = (
            torch.stack(errors).sum(),
            torch.stack([e * w for e, w in zip(errors, weights, strict=True)]).sum(),
        )
        regression.append(heavy * (plain / heavy).detach())
    divisor = 0.9 * 100 + 0.1 * int(assignment.positive.sum())
    expected = {"loss_cls": sum(classification) / divisor, "loss_bbox": sum(regression) / divisor}
    ours = losses_of(criterion, batch)
    assert list(ours) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=0, msg=name)
    for found, wanted in zip(gradients(batch, ours), gradients(batch, expected), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-14)


def test_equally_clean_predictions_train_as_plain_focal_loss_does() -> None:
    """Soft labels and weights of 1 are RetinaNet's losses on these samples."""
    batch = scene(images=1, objects=1)
    points, criterion = batch.predictions.points, NoisyAnchor()
    perfect = encode_deltas(points.anchors, batch.targets.boxes.expand(-1, len(points.anchors), -1), STDS)
    even = with_predictions(batch, torch.zeros_like(batch.predictions.class_logits), perfect.detach())
    assignment = criterion.assign(even)
    torch.testing.assert_close(assignment.target, assignment.positive.double())
    term = criterion.losses(even, assignment)[0]
    half = torch.tensor(0.5, dtype=torch.float64)
    classes = assignment.positive[..., None] & (torch.arange(3) == batch.targets.labels[..., None])
    plain = focal_loss(half.log().expand(1, len(points.anchors), 3), half.log(), classes, alpha=0.5, gamma=2.0)
    torch.testing.assert_close(term.per_location.sum(), (plain.sum(dim=2) * batch.valid).sum())


def test_the_power_0_gives_the_plain_box_loss() -> None:
    batch = scene()
    criterion, plain = NoisyAnchor(gamma=0.0), NoisyAnchor()
    assignment = criterion.assign(batch)
    errors = delta_errors(batch.predictions, match(assignment, batch.targets))
    expected = smooth_l1(errors, 0.1).sum(dim=2) * assignment.positive
    torch.testing.assert_close(criterion.losses(batch, assignment)[1].per_location, expected)
    assert (plain.losses(batch, assignment)[1].per_location - expected).abs().max() > 0.01


def test_soft_labels_and_weights_carry_no_gradient() -> None:
    batch = scene()
    assignment = NoisyAnchor().assign(batch)
    loc, cls = cleanliness(batch.predictions, batch.targets, assignment)
    assert not any(value.requires_grad for value in (assignment.target, loc, cls))
    classification, box = NoisyAnchor()(batch)
    logits, deltas = gradients(batch, {"loss_cls": classification.per_location.sum()})
    assert logits.any()
    assert not deltas.any()
    logits, deltas = gradients(batch, {"loss_bbox": box.per_location.sum()})
    assert not logits.any()
    assert deltas.any()


def test_the_number_of_positives_runs_and_the_sums_are_those_without_weights() -> None:
    batch = scene()
    criterion = NoisyAnchor(momentum=0.5, initial=40)
    terms = criterion(batch)
    count = int(criterion.assign(batch).positive.sum())
    assert [term.running for term in terms] == [Running(momentum=0.5, initial=40)] * 2
    assert [float(term.normaliser.sum()) for term in terms] == [count] * 2
    plain = NoisyAnchor(gamma=0.0)(batch)
    for ours, unweighted in zip(terms, plain, strict=True):
        torch.testing.assert_close(ours.per_location.sum(dim=1), unweighted.per_location.sum(dim=1))
        assert not torch.allclose(ours.per_location, unweighted.per_location)


def test_images_do_not_see_each_other() -> None:
    """So micro-batches and processes change nothing."""
    batch = scene()
    p, t = batch.predictions, batch.targets
    assert p.deltas is not None
    both = NoisyAnchor()(batch)
    for image in (slice(0, 1), slice(1, 2)):
        one = batch_of(
            predictions_of(p.points, p.class_logits.detach()[image], p.deltas.detach()[image]),
            Targets(t.boxes[image], t.labels[image], t.valid[image]),
            batch.valid[image],
        )
        for alone, together in zip(NoisyAnchor()(one), both, strict=True):
            torch.testing.assert_close(alone.per_location, together.per_location[image])


@given(st.integers(0, 99), st.integers(1, 4), st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_empty_slots_and_the_order_of_objects_change_nothing(seed: int, more: int, random) -> None:  # type: ignore[no-untyped-def]
    batch = scene(seed)
    t = batch.targets
    padded = (
        torch.cat([t.boxes, torch.full((2, more, 4), 7.0, dtype=t.boxes.dtype)], dim=1),
        torch.cat([t.labels, torch.full((2, more), 2)], dim=1),
        torch.cat([t.valid, torch.zeros(2, more, dtype=torch.bool)], dim=1),
    )
    order = torch.tensor(random.sample(range(4 + more), 4 + more))
    other = replace(batch, targets=Targets(*(value[:, order] for value in padded)))
    ours, expected = losses_of(NoisyAnchor(), other), losses_of(NoisyAnchor(), batch)
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=0, msg=name)


def test_what_lies_in_the_padding_takes_no_part() -> None:
    batch = scene()
    outside = ~batch.valid
    assert outside.any()
    p = batch.predictions
    assert p.deltas is not None
    moved = with_predictions(
        batch,
        torch.where(outside[..., None], 50.0, p.class_logits.detach()),
        torch.where(outside[..., None], 3.0, p.deltas.detach()),
    )
    ours, expected = losses_of(NoisyAnchor(), moved), losses_of(NoisyAnchor(), batch)
    assert all(torch.equal(ours[name], value) for name, value in expected.items())
    assert not any(found[outside].any() for found in gradients(moved, ours))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [200.0, -200.0, 1e4, -1e4, 0.0])
@pytest.mark.parametrize("objects", [1, 4])
def test_extreme_logits(objects: int, logit: float, dtype: torch.dtype) -> None:
    """Every background score 1 and every object's 0, or the other way round."""
    batch = scene(objects=objects, dtype=dtype)
    criterion = NoisyAnchor()
    assignment = criterion.assign(batch)
    _, labels = batch.targets.take(assignment.gt_index)
    own = (torch.arange(3) == labels[..., None]) & assignment.positive[..., None]
    extreme = with_predictions(batch, torch.where(own, -logit, logit).to(dtype))
    losses = losses_of(criterion, extreme)
    assert all(torch.isfinite(value) and value >= 0 for value in losses.values())
    logits, deltas = gradients(extreme, losses)
    assert logits.isfinite().all()
    assert deltas.isfinite().all()
    if logit > 0:
        assert (logits[own] < 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("boxes", ["perfect", "far", "one perfect"])
@pytest.mark.parametrize("images", [1, 2])
def test_perfect_and_hopeless_boxes(images: int, boxes: str, dtype: torch.dtype) -> None:
    """Overlaps of exactly 1 with scores of exactly 1, overlaps of 0, and one 1 among 0."""
    batch = scene(images=images, objects=2, dtype=dtype)
    points, criterion = batch.predictions.points, NoisyAnchor()
    assignment = criterion.assign(batch)
    wanted, _ = batch.targets.take(assignment.gt_index)
    perfect = encode_deltas(points.anchors, wanted, STDS)
    kept = assignment.positive if boxes == "perfect" else torch.zeros_like(assignment.positive)
    if boxes == "one perfect":
        kept = kept.scatter(1, assignment.positive.int().argmax(dim=1, keepdim=True), True)
    deltas = torch.where(kept[..., None], perfect, 3.0)
    logits = torch.where(assignment.positive[..., None], 100.0, -100.0).to(dtype).expand(-1, -1, 3)
    other = with_predictions(batch, logits, deltas)
    losses = losses_of(criterion, other)
    assert all(torch.isfinite(value) and value >= 0 for value in losses.values())
    assert all(found.isfinite().all() for found in gradients(other, losses))
    target = criterion.assign(other).target
    assert ((target >= 0) & (target <= 1)).all()


@pytest.mark.parametrize("kind", NOTHING)
def test_images_without_objects_train_the_background_alone(kind: str) -> None:
    batch = replace(scene(dtype=torch.float32), targets=NOTHING[kind])
    losses = losses_of(NoisyAnchor(), batch)
    assert losses["loss_cls"] > 0
    assert losses["loss_bbox"] == 0
    logits, deltas = gradients(batch, losses)
    assert logits.isfinite().all()
    assert not deltas.any()
