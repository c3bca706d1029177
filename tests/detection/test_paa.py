"""PAA: candidates, the mixture over their losses, what it makes positive, and the losses of that."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tood.detection.assigners.assignment import Assignment
from tood.detection.boxes import aligned_iou
from tood.detection.criteria.base import combine, divisors
from tood.detection.criteria.paa import Paa, least_of_each_level, mixture, separate
from tood.detection.points import make_points
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress, TrainingBatch

PROGRESS = Progress(epoch=0, step=0, total_steps=1)
SLOW = settings(max_examples=20, deadline=None)
LOSSES = st.lists(st.floats(0.1, 5.0), min_size=2, max_size=45)


def all_of(values: list[float]) -> tuple[Tensor, Tensor]:
    losses = torch.tensor(values, dtype=torch.float64)
    return losses, torch.ones_like(losses, dtype=torch.bool)


def training_batch(make_scene: Callable[..., object], seed: int = 0, **shape: object) -> TrainingBatch:
    scene = make_scene(seed, **shape)
    draw = torch.Generator().manual_seed(seed)
    predictions = Predictions(
        points=scene.points,
        class_logits=scene.scores.logit().requires_grad_(),
        boxes=scene.boxes.clone().requires_grad_(),
        quality=torch.randn(scene.boxes.shape[:2], generator=draw, dtype=torch.float64).requires_grad_(),
    )
    return TrainingBatch(predictions, scene.targets, scene.valid, PROGRESS)


def candidates(batch: TrainingBatch, rule: Paa) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First stage (B, N), losses (B, N), and every object's candidates (B, G, M) with which of them count."""
    first = rule.first_stage(batch).gt_index
    boxes, labels = batch.targets.take(first)
    cost = rule.candidate_losses(batch.predictions, boxes, labels)
    objects = batch.targets.boxes.shape[1]
    points = batch.predictions.points
    return first, cost, *least_of_each_level(cost, first, points, num_objects=objects, topk=rule.topk)


def test_the_paper_s_scheme_c_by_hand() -> None:
    """Component 0 are the three cheap ones; the likeliest is in their middle, and dearer ones are background."""
    losses, counted = all_of([3.4, 1.1, 1.0, 3.1, 1.2, 3.0])
    assert separate(losses, counted).tolist() == [False, True, True, False, False, False]


def test_two_that_component_0_holds_alone_are_equally_likely() -> None:
    losses, counted = all_of([0.5, 0.52, 2.5, 3.0])
    assert separate(losses, counted).tolist() == [True, True, False, False]


def test_first_step_of_the_mixture_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values 0 and 2: at first means 0 and 2, so that 0 belongs to component 0 by a = 1 / (1 + e^-2).

    Then both weights are 1/2, mean 0 is 2 (1 - a), and variance 0 is 4 a (1 - a) + 1e-6.
    """
    monkeypatch.setattr("tood.detection.criteria.paa.MAX_ITERATIONS", 1)
    share = 1 / (1 + math.exp(-2))
    mean, variance = 2 * (1 - share), 4 * share * (1 - share) + 1e-6
    expected = [math.log(0.5) - math.log(2 * math.pi * variance) / 2 - (x - mean) ** 2 / (2 * variance) for x in (0, 2)]
    found = mixture(*all_of([0.0, 2.0]))
    torch.testing.assert_close(found[0], torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(found[1], found[0].flip(0))


def slow_mixture(values: list[float]) -> list[list[float]]:
    """The same EM in loops: log(weight * density) by component and value."""

    def evaluate() -> list[list[float]]:
        return [
            [math.log(w) - math.log(2 * math.pi * v) / 2 - (x - m) ** 2 / (2 * v) for x in values]
            for w, m, v in zip(weights, means, variances, strict=True)
        ]

    weights, means, variances, before = [0.5, 0.5], [min(values), max(values)], [1.0, 1.0], -math.inf
    tiny = 10 * torch.finfo(torch.float64).eps
    for _ in range(100):
        logs = evaluate()
        total = [max(a, b) + math.log1p(math.exp(-abs(a - b))) for a, b in zip(*logs, strict=True)]
        masses = []
        for k in range(2):
            share = [math.exp(a - t) for a, t in zip(logs[k], total, strict=True)]
            masses.append(math.fsum(share) + tiny)
            means[k] = math.fsum(s * x for s, x in zip(share, values, strict=True)) / masses[k]
            spread = math.fsum(s * (x - means[k]) ** 2 for s, x in zip(share, values, strict=True))
            variances[k] = spread / masses[k] + 1e-6
        weights = [mass / sum(masses) for mass in masses]
        now = math.fsum(total) / len(values)
        if abs(now - before) < 1e-3:
            break
        before = now
    return evaluate()


@SLOW
@given(st.lists(LOSSES, min_size=1, max_size=6))
def test_mixture_is_that_of_a_slow_loop(rows: list[list[float]]) -> None:
    """All rows at once, padded to the longest, each with its own number of steps."""
    length = max(map(len, rows)) + 2
    values = torch.full((len(rows), length), 77.0, dtype=torch.float64)
    counted = torch.zeros_like(values, dtype=torch.bool)
    for row, content in enumerate(rows):
        values[row, : len(content)] = torch.tensor(content, dtype=torch.float64)
        counted[row, : len(content)] = True
    found = mixture(values, counted)
    for row, content in enumerate(rows):
        expected = torch.tensor(slow_mixture(content), dtype=torch.float64)
        # Where a component has shrunk to the variance floor, its log density is as large as 1e6.
        torch.testing.assert_close(found[:, row, : len(content)], expected, rtol=1e-6, atol=1e-6)


@SLOW
@given(LOSSES)
def test_positives_are_the_cheapest_of_their_component(values: list[float]) -> None:
    losses, counted = all_of(values)
    positive = separate(losses, counted)
    assert positive.any()
    shares = mixture(losses, counted)
    first = shares[0] >= shares[1]
    if first.any():
        likelihood = torch.where(first, shares.logsumexp(dim=0), -torch.inf)
        limit = losses[positive].max()
        assert torch.equal(positive, first & (losses <= limit))
        assert likelihood[losses == limit].max() >= likelihood.max() - 1e-6
    padded = torch.cat([losses, torch.tensor([-3.0, 0.0])])
    assert separate(padded, torch.cat([counted, torch.tensor([False, False])])).tolist() == [*positive.tolist(), 0, 0]


def test_candidates_without_a_mixture() -> None:
    losses = torch.tensor([[0.7, 9.0], [0.7, 9.0]])
    counted = torch.tensor([[True, False], [False, False]])
    assert separate(losses, counted).tolist() == [[True, False], [False, False]]
    assert not separate(losses, counted, unfitted="background").any()
    # Losses so close that both components are the same one but for rounding, the dearer with the larger weight.
    close, all_counted = all_of([1.0001176, 1.0018052, 1.0021583, 1.0021637, 1.002202])
    assert (mixture(close, all_counted)[0] < mixture(close, all_counted)[1]).all()
    assert separate(close, all_counted).all()
    assert not separate(close, all_counted, unfitted="background").any()


def test_equal_losses_are_all_positive() -> None:
    assert separate(torch.full((3, 7), 1.3), torch.ones(3, 7, dtype=torch.bool)).all()


@SLOW
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4))
def test_least_of_each_level_is_what_a_loop_finds(seed: int, objects: int, topk: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    points = make_points(((2, 4), (2, 2), (1, 1)), (8, 16, 32), torch.device("cpu"), torch.float32)
    cost = torch.rand(2, 13, generator=draw)
    owner = torch.randint(-1, objects, (2, 13), generator=draw)
    locations, counted = least_of_each_level(cost, owner, points, num_objects=objects, topk=topk)
    assert locations.shape == (2, objects, 3 * topk)
    for image in range(2):
        for number in range(objects):
            expected = []
            for start, end in ((0, 8), (8, 12), (12, 13)):
                own = [i for i in range(start, end) if owner[image, i] == number]
                expected += sorted(own, key=lambda i: float(cost[image, i]))[:topk]
            assert locations[image, number][counted[image, number]].tolist() == expected


def test_candidate_loss_by_hand() -> None:
    """Two classes at logit 0: alpha / 4 ln 2 for the object's, (1 - alpha) / 4 ln 2 for the other, together ln 2 / 4.

    Boxes of which one is half of the other: GIoU 1/2.
    """
    predictions = Predictions(
        points=make_points(((1, 1),), (8,), torch.device("cpu"), torch.float64),
        class_logits=torch.zeros(1, 1, 2, dtype=torch.float64),
        boxes=torch.tensor([[[0.0, 0.0, 4.0, 2.0]]], dtype=torch.float64),
    )
    box = torch.tensor([[[0.0, 0.0, 4.0, 4.0]]], dtype=torch.float64)
    found = Paa(box_weight=1.3).candidate_losses(predictions, box, torch.tensor([[1]]))
    torch.testing.assert_close(found.item(), math.log(2) / 4 + 1.3 * 0.5)


def hand_made(quality: float | None) -> tuple[TrainingBatch, Assignment]:
    """One image of four locations; the first two are positives with IoU 1/2 and 1/4, all logits are 0."""
    target = torch.tensor([[[0.0, 0.0, 4.0, 4.0]]], dtype=torch.float64)
    boxes = torch.tensor([[[0, 0, 4, 2], [0, 0, 4, 1], [9, 9, 9, 9], [0, 0, 1, 1]]], dtype=torch.float64)
    predictions = Predictions(
        points=make_points(((2, 2),), (8,), torch.device("cpu"), torch.float64),
        class_logits=torch.zeros(1, 4, 1, dtype=torch.float64),
        boxes=boxes,
        quality=None if quality is None else torch.full((1, 4), quality, dtype=torch.float64),
    )
    gt_index = torch.tensor([[0, 0, -1, -1]])
    iou = aligned_iou(boxes, target) * (gt_index >= 0)
    targets = Targets(target, torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool))
    batch = TrainingBatch(predictions, targets, torch.ones(1, 4, dtype=torch.bool), PROGRESS)
    return batch, Assignment(gt_index, iou=iou, metric=iou, target=(gt_index >= 0).double())


def test_losses_by_hand() -> None:
    """Box loss (1/2 * 1/2 + 1/4 * 3/4) / (3/4) * 1.3; IoU loss 1/2 ln 2; focal (2 a + 2 (1 - a)) / 4 ln 2 / 2."""
    batch, assignment = hand_made(quality=0.0)
    losses = combine(Paa().losses(batch, assignment))
    assert list(losses) == ["loss_cls", "loss_bbox", "loss_iou"]
    expected = [math.log(2) / 4, 1.3 * 0.4375 / 0.75, 0.5 * math.log(2)]
    torch.testing.assert_close([float(x) for x in losses.values()], expected, rtol=1e-6, atol=0)


def test_without_quality_all_boxes_weigh_the_same() -> None:
    batch, assignment = hand_made(quality=None)
    losses = combine(Paa().losses(batch, assignment))
    assert list(losses) == ["loss_cls", "loss_bbox"]
    torch.testing.assert_close(float(losses["loss_bbox"]), 1.3 * (0.5 + 0.75) / 2, rtol=1e-6, atol=0)


def test_classification_counts_at_least_the_images(make_scene: Callable[..., object]) -> None:
    batch = training_batch(make_scene, images=3, objects=0)
    terms = Paa()(batch)
    assert divisors(terms)["loss_cls"].tolist() == [3]
    assert {term.name for term in terms if term.per_location.any()} == {"loss_cls"}


@pytest.mark.parametrize("seed", range(4))
def test_positives_are_candidates(make_scene: Callable[..., object], seed: int) -> None:
    batch, rule = training_batch(make_scene, seed), Paa()
    assignment = rule.assign(batch)
    first, cost, locations, counted = candidates(batch, rule)
    allowed = torch.zeros_like(first, dtype=torch.bool)
    for image in range(len(first)):
        allowed[image, locations[image][counted[image]]] = True
    assert assignment.positive.any()
    assert not (assignment.positive & ~allowed).any()
    assert torch.equal(assignment.gt_index[assignment.positive], first[assignment.positive])
    assert torch.equal(assignment.metric[assignment.positive], cost[assignment.positive])
    assert not (assignment.positive & ~batch.valid).any()
    # Who has a candidate has a positive.
    for image, number in counted.any(dim=2).nonzero().tolist():
        assert (assignment.gt_index[image] == number).any()


@pytest.mark.parametrize("seed", range(3))
def test_order_of_objects_changes_nothing(
    make_scene: Callable[..., object], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Beyond who is whose candidate, where of two objects that claim their best anchor the later gets it."""
    batch = training_batch(make_scene, seed)
    expected, first = Paa().assign(batch).gt_index, Paa().first_stage(batch)
    order = torch.randperm(batch.targets.boxes.shape[1], generator=torch.Generator().manual_seed(seed))
    place, t = order.argsort(), batch.targets
    shuffled = replace(batch, targets=Targets(t.boxes[:, order], t.labels[:, order], t.valid[:, order]))
    owner = torch.where(first.positive, place[first.gt_index.clamp(min=0)], -1)
    monkeypatch.setattr(Paa, "first_stage", lambda *_: replace(first, gt_index=owner))
    found = Paa().assign(shuffled).gt_index
    assert torch.equal(torch.where(found >= 0, order[found.clamp(min=0)], -1), expected)


def test_empty_slots_change_nothing(make_scene: Callable[..., object]) -> None:
    batch = training_batch(make_scene)
    t = batch.targets
    more = Targets(
        torch.cat([t.boxes, t.boxes], dim=1),
        torch.cat([t.labels, t.labels], dim=1),
        torch.cat([t.valid, torch.zeros_like(t.valid)], dim=1),
    )
    expected, found = Paa().assign(batch), Paa().assign(replace(batch, targets=more))
    assert torch.equal(found.gt_index, expected.gt_index)
    torch.testing.assert_close(found.metric, expected.metric)


def test_images_do_not_see_each_other(make_scene: Callable[..., object]) -> None:
    scene = make_scene()
    whole = training_batch(make_scene)
    together = Paa().assign(whole)
    for image in range(2):
        one = slice(image, image + 1)
        p = whole.predictions
        alone = TrainingBatch(
            replace(p, class_logits=p.class_logits[one], boxes=p.boxes[one], quality=p.quality[one]),
            scene.image(image).targets,
            scene.image(image).valid,
            PROGRESS,
        )
        assert torch.equal(Paa().assign(alone).gt_index, together.gt_index[one])


@pytest.mark.parametrize("with_quality", [True, False])
@pytest.mark.parametrize("shape", [{}, {"images": 1, "objects": 1}, {"objects": 0}])
def test_finite_losses_and_gradients(
    make_scene: Callable[..., object], shape: dict[str, int], with_quality: bool
) -> None:
    batch = training_batch(make_scene, **shape)
    if not with_quality:
        batch = replace(batch, predictions=replace(batch.predictions, quality=None))
    sum(combine(Paa()(batch)).values()).backward()
    for output in (batch.predictions.class_logits, batch.predictions.boxes):
        assert output.grad is not None
        assert output.grad.isfinite().all()
    assert batch.predictions.class_logits.grad.any()


def test_float32_assigns_as_float64(make_scene: Callable[..., object]) -> None:
    batch = training_batch(make_scene)
    p, t = batch.predictions, batch.targets
    single = TrainingBatch(
        Predictions(p.points, p.class_logits.float(), p.boxes.float(), quality=p.quality.float()),
        Targets(t.boxes.float(), t.labels, t.valid),
        batch.valid,
        PROGRESS,
    )
    found = Paa().assign(single)
    assert torch.equal(found.gt_index, Paa().assign(batch).gt_index)
    assert found.iou.dtype == found.metric.dtype == found.target.dtype == torch.float32
