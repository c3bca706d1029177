"""PISA: importance by rank and attention by score, against plain loops, by hand, and at the extremes."""

from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from retina_scenes import NOTHING, STDS, batch_of, gradients, losses_of, predictions_of, scene, with_predictions
from torch import Tensor

from tood.detection.assigners.max_iou import MaxIouAssigner
from tood.detection.boxes import aligned_iou, encode_deltas
from tood.detection.criteria.base import DIVISOR_EPSILON, LossTerm
from tood.detection.criteria.focal import FocalCriterion
from tood.detection.criteria.pisa import Pisa, attention_weights, importance_weights, keep_sum
from tood.detection.targets import Targets
from tood.detection.training_batch import Groups, TrainingBatch

ONE_GROUP = torch.zeros(64, dtype=torch.int64)


def plain_importance(iou: Tensor, gt_index: Tensor, labels: Tensor, k: float, bias: float) -> Tensor:
    """The weights with dictionaries and lists, one object and one class after the other."""
    by_class = defaultdict(lambda: defaultdict(list))
    for image in range(iou.shape[0]):
        for place in range(iou.shape[1]):
            if gt_index[image, place] >= 0:
                owner = (image, int(gt_index[image, place]))
                by_class[int(labels[image, place])][owner].append((float(iou[image, place]), image, place))
    most = max((sum(len(found) for found in objects.values()) for objects in by_class.values()), default=0)
    weights = torch.ones_like(iou)
    for objects in by_class.values():
        ranked = [
            (rank, -overlap, image, place)
            for found in objects.values()
            for rank, (overlap, image, place) in enumerate(sorted(found, reverse=True))
        ]
        for rank, (_, _, image, place) in enumerate(sorted(ranked)):
            weights[image, place] = (bias + (1 - bias) * (most - rank) / most) ** k
    return weights


@st.composite
def ranked_samples(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Different overlaps, the object of each location or -1, and its class; objects have one class each."""
    images, length = draw(st.integers(1, 3)), draw(st.integers(1, 30))
    objects, classes = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    iou = torch.randperm(images * length, generator=generator).reshape(images, length).double() / (images * length)
    gt_index = torch.randint(-1, objects, (images, length), generator=generator)
    label = torch.randint(classes, (images, objects), generator=generator)
    return iou, gt_index, label.gather(1, gt_index.clamp(min=0))


@given(ranked_samples(), st.sampled_from([(2.0, 0.0), (1.0, 0.3), (0.5, 0.9)]))
@settings(max_examples=60, deadline=None)
def test_importance_equals_a_plain_loop(samples: tuple[Tensor, Tensor, Tensor], rule: tuple[float, float]) -> None:
    k, bias = rule
    weights = importance_weights(*samples, ONE_GROUP[: len(samples[0])], k=k, bias=bias)
    assert ((weights >= 0) & (weights <= 1)).all()
    torch.testing.assert_close(weights, plain_importance(*samples, k, bias), rtol=1e-12, atol=0)


@given(ranked_samples(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_importance_does_not_depend_on_any_order(samples: tuple[Tensor, Tensor, Tensor], random) -> None:  # type: ignore[no-untyped-def]
    iou, gt_index, labels = samples
    expected = importance_weights(iou, gt_index, labels, ONE_GROUP[: len(iou)], k=2, bias=0)
    images = torch.tensor(random.sample(range(len(iou)), len(iou)))
    places = torch.tensor(random.sample(range(iou.shape[1]), iou.shape[1]))
    names = torch.tensor(random.sample(range(9), 4))
    renamed = torch.where(gt_index >= 0, names[gt_index.clamp(min=0)], -1)
    shuffled = [value[images][:, places] for value in (iou, renamed, labels)]
    assert torch.equal(importance_weights(*shuffled, ONE_GROUP[: len(iou)], k=2, bias=0), expected[images][:, places])


def test_importance_by_hand() -> None:
    """Class 0 has objects with overlaps .9 .7 .5 and .8 .6, class 1 one with .3 .2: ranks 0 2 4, 1 3 and 0 1 of 5."""
    iou = torch.tensor([[0.5, 0.9, 0.0, 0.7, 0.6], [0.2, 0.4, 0.3, 0.8, 0.1]])
    gt_index = torch.tensor([[0, 0, -1, 0, 1], [0, -1, 0, -1, -1]])
    gt_index[0, 2], iou[0, 2] = 1, 0.8
    iou[1, 3] = 1.0
    labels = torch.tensor([[0, 0, 0, 0, 0], [1, 0, 1, 0, 0]])
    weights = importance_weights(iou, gt_index, labels, ONE_GROUP[: len(iou)], k=1, bias=0)
    expected = torch.tensor([[0.2, 1.0, 0.8, 0.6, 0.4], [0.8, 1.0, 1.0, 1.0, 1.0]])
    torch.testing.assert_close(weights, expected)
    squared = importance_weights(iou, gt_index, labels, ONE_GROUP[: len(iou)], k=2, bias=0.5)
    torch.testing.assert_close(squared[0], (0.5 + 0.5 * expected[0]).square())


def test_objects_of_two_images_are_two_objects() -> None:
    """Both have index 0; one object would be ranked 0 to 3, two are ranked 0 1 and 0 1 first."""
    iou = torch.tensor([[0.9, 0.8], [0.5, 0.4]])
    weights = importance_weights(
        iou, torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 2), ONE_GROUP[:2], k=1, bias=0
    )
    torch.testing.assert_close(weights, torch.tensor([[1.0, 0.5], [0.75, 0.25]]))


@given(ranked_samples())
@settings(max_examples=30, deadline=None)
def test_scaled_weights_keep_the_sum_of_the_positives(samples: tuple[Tensor, Tensor, Tensor]) -> None:
    iou, gt_index, labels = samples
    positive, loss = gt_index >= 0, 1.1 - iou
    weights = keep_sum(
        importance_weights(iou, gt_index, labels, ONE_GROUP[: len(iou)], k=2, bias=0),
        loss,
        positive,
        ONE_GROUP[: len(loss)],
    )
    torch.testing.assert_close((weights * loss)[positive].sum(), loss[positive].sum())
    assert (weights[~positive] == 1).all()


def test_attention_by_hand() -> None:
    """Scores .5 and 0 weigh .6 and .2, which is 1.5 and .5 at a mean of 1."""
    positive = torch.tensor([[True, False], [False, True]])
    score = torch.tensor([[0.5, 0.9], [0.9, 0.0]])
    weights = attention_weights(score, positive, ONE_GROUP[: len(score)], k=1, bias=0.2)
    torch.testing.assert_close(weights, torch.tensor([[1.5, 0.0], [0.0, 0.5]]))
    assert not attention_weights(score, torch.zeros_like(positive), ONE_GROUP[: len(score)], k=1, bias=0.2).any()


@pytest.mark.parametrize(("k", "bias"), [(1.0, 0.2), (2.0, 0.0), (0.5, 0.3)])
def test_attention_passes_gradient_through_scores_and_their_sum(k: float, bias: float) -> None:
    score = torch.rand(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    positive = torch.tensor([[True, True, False, True, False], [False, False, True, False, False]])
    assert torch.autograd.gradcheck(
        lambda value: attention_weights(value, positive, ONE_GROUP[: len(value)], k=k, bias=bias), (score,)
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_losses_equal_a_plain_loop(seed: int) -> None:
    """Every number from its definition, one sample at a time."""
    batch = scene(seed)
    predictions, targets = batch.predictions, batch.targets
    criterion = Pisa(box_weight=1.3)
    assignment = criterion.assign(batch)
    assert assignment.positive[0].sum() > 20
    score, deltas = predictions.class_logits.sigmoid(), predictions.deltas
    assert deltas is not None
    iou, labels = torch.zeros_like(assignment.iou), torch.zeros_like(assignment.gt_index)
    rows, boxes = torch.zeros_like(assignment.iou), torch.zeros_like(assignment.iou)
    for image, place in assignment.counted(batch.valid).nonzero().tolist():
        owner = int(assignment.gt_index[image, place])
        label = int(targets.labels[image, owner]) if owner >= 0 else -1
        for name, p in enumerate(score[image, place]):
            hit = name == label
            rows[image, place] -= 0.25 * (1 - p) ** 2 * p.log() if hit else 0.75 * p**2 * (1 - p).log()
        if owner < 0:
            continue
        box = targets.boxes[image, owner]
        labels[image, place] = label
        iou[image, place] = aligned_iou(predictions.boxes[image, place], box)
        wanted = encode_deltas(predictions.points.anchors[place], box, STDS)
        for error in (deltas[image, place] - wanted).abs():
            boxes[image, place] += 1.3 * (error**2 / 0.22 if error < 0.11 else error - 0.055)
    positive = assignment.positive
    weights = plain_importance(iou.detach(), assignment.gt_index, labels, 2.0, 0.0)
    scale = (rows[positive].sum() / (rows * weights)[positive].sum()).detach()
    own = score.gather(2, labels[..., None])[..., 0]
    care = 0.2 + 0.8 * own[positive]
    count = sum(max(1, int(found.sum())) for found in positive)
    expected = {
        "loss_cls": (rows[~positive].sum() + scale * (rows * weights)[positive].sum()) / (count + DIVISOR_EPSILON),
        "loss_bbox": boxes[positive].sum() / (count + DIVISOR_EPSILON),
        "loss_carl": (boxes[positive] * care).sum() * positive.sum() / care.sum() / count,
    }
    ours = losses_of(criterion, batch)
    assert list(ours) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=0, msg=name)
    for found, wanted in zip(gradients(batch, ours), gradients(batch, expected), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-14)


def test_without_importance_it_is_retinanet_and_without_attention_its_box_loss_twice() -> None:
    batch = scene()
    plain = FocalCriterion(assigner=MaxIouAssigner(), box_loss="l1", box_weight=1.0, weight_by="nothing")
    ours = losses_of(Pisa(isr_bias=1.0, carl_bias=1.0), batch)
    torch.testing.assert_close(ours["loss_cls"], losses_of(plain, batch)["loss_cls"])
    torch.testing.assert_close(ours["loss_carl"], ours["loss_bbox"], rtol=1e-6, atol=0)


def test_importance_moves_gradient_to_the_better_boxes_and_leaves_the_loss() -> None:
    batch = scene()
    weighted, plain = losses_of(Pisa(), batch), losses_of(Pisa(isr_bias=1.0), batch)
    torch.testing.assert_close(weighted["loss_cls"], plain["loss_cls"])
    first, second = (gradients(batch, {"loss_cls": losses["loss_cls"]})[0] for losses in (weighted, plain))
    positive = Pisa().assign(batch).positive
    assert torch.equal(first[~positive], second[~positive])
    assert not torch.allclose(first[positive], second[positive])


def test_the_images_of_a_group_are_compared_and_no_others() -> None:
    assert Pisa().over == "group"
    assert FocalCriterion().over == "step"
    batch = scene()
    apart = replace(batch, groups=Groups(torch.arange(2), 2, 1))
    both, each = ([term.per_location[0].sum() for term in Pisa()(one)] for one in (batch, apart))
    alone = [term.per_location.sum() for term in Pisa()(first_image(batch))]
    torch.testing.assert_close(each, alone)
    assert not torch.allclose(torch.stack(both), torch.stack(alone))


def first_image(batch: TrainingBatch) -> TrainingBatch:
    p, t = batch.predictions, batch.targets
    assert p.deltas is not None
    return batch_of(
        predictions_of(p.points, p.class_logits[:1].detach(), p.deltas[:1].detach()),
        Targets(t.boxes[:1], t.labels[:1], t.valid[:1]),
        batch.valid[:1],
    )


@given(st.integers(0, 99), st.integers(1, 4), st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_empty_slots_and_the_order_of_images_change_nothing(seed: int, more: int, random) -> None:  # type: ignore[no-untyped-def]
    batch = scene(seed)
    p, t = batch.predictions, batch.targets
    assert p.deltas is not None
    padded = Targets(
        torch.cat([t.boxes, torch.full((2, more, 4), 7.0, dtype=t.boxes.dtype)], dim=1),
        torch.cat([t.labels, torch.full((2, more), 2)], dim=1),
        torch.cat([t.valid, torch.zeros(2, more, dtype=torch.bool)], dim=1),
    )
    # Objects stay in order: of two that claim one anchor the later one gets it.
    places = sorted(random.sample(range(4 + more), 4))
    objects = torch.full((4 + more,), 4).scatter(0, torch.tensor(places), torch.arange(4))
    images = torch.tensor(random.sample(range(2), 2))
    shuffled = Targets(*(value[images][:, objects] for value in (padded.boxes, padded.labels, padded.valid)))
    logits, deltas = p.class_logits.detach()[images], p.deltas.detach()[images]
    other = batch_of(predictions_of(p.points, logits, deltas), shuffled, batch.valid[images])
    ours, expected = losses_of(Pisa(), other), losses_of(Pisa(), batch)
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=0, msg=name)


EXTREMES = {
    "all wrong": 200.0,
    "all right": -200.0,
    "beyond exp": 1e4,
    "beyond exp, right": -1e4,
    "even": 0.0,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("options", [{}, {"isr_bias": 0.3, "carl_bias": 0.0, "carl_k": 0.5}, {"carl_bias": 0.0}])
def test_extreme_logits(extreme: str, options: dict[str, float], dtype: torch.dtype) -> None:
    """Every background score 1 and every object's 0, or the other way round."""
    batch = scene(dtype=dtype)
    criterion = Pisa(**options)
    assignment = criterion.assign(batch)
    _, labels = batch.targets.take(assignment.gt_index)
    own = (torch.arange(3) == labels[..., None]) & assignment.positive[..., None]
    extremes = with_predictions(batch, torch.where(own, -EXTREMES[extreme], EXTREMES[extreme]).to(dtype))
    losses = losses_of(criterion, extremes)
    assert all(torch.isfinite(value) and value >= 0 for value in losses.values())
    logits, deltas = gradients(extremes, losses)
    assert logits.isfinite().all()
    assert deltas.isfinite().all()
    if EXTREMES[extreme] > 0 and not options:
        assert (logits[own] < 0).all()


@pytest.mark.parametrize("kind", NOTHING)
def test_images_without_objects_train_the_background_alone(kind: str) -> None:
    batch = replace(scene(dtype=torch.float32), targets=NOTHING[kind])
    losses = losses_of(Pisa(), batch)
    assert losses["loss_cls"] > 0
    assert losses["loss_bbox"] == losses["loss_carl"] == 0
    logits, deltas = gradients(batch, losses)
    assert logits.isfinite().all()
    assert not deltas.any()


def test_boxes_that_overlap_nothing_and_perfect_boxes() -> None:
    """Overlaps of 0 everywhere are ties; a perfect box costs nothing and still ranks first."""
    batch = scene(images=1, objects=1)
    points, assignment = batch.predictions.points, Pisa().assign(batch)
    targets = encode_deltas(points.anchors, batch.targets.boxes, STDS)
    perfect = torch.where(assignment.positive[..., None], targets, 0)
    far = torch.full_like(perfect, 9.0)
    logits = batch.predictions.class_logits.detach()
    for deltas in (perfect, far):
        other = replace(batch, predictions=predictions_of(points, logits, deltas))
        losses = losses_of(Pisa(), other)
        assert (losses["loss_carl"] > 1e-9) == (deltas is far)
        assert all(value.isfinite().all() for value in gradients(other, losses))


def test_terms_are_all_divided_by_the_positives_of_each_image_but_at_least_one() -> None:
    batch = scene(objects=1)  # the second image has none
    terms: list[LossTerm] = Pisa()(batch)
    count = int(Pisa().assign(batch).positive.sum()) + 1
    assert [float(term.normaliser.sum()) for term in terms] == [count] * 3
