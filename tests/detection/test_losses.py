"""Loss formulas against their textbook form, and at extreme logits."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tood.detection.criteria.base import LossTerm, Running, combine, divisor_shares, divisors, running_means
from tood.detection.losses import (
    binary_cross_entropy,
    distribution_focal_loss,
    focal_loss,
    giou_loss,
    quality_focal_loss,
)
from tood.detection.points import make_points
from tood.detection.predictions import Predictions

EXTREMES = [-100.0, -60.0, -20.0, 0.0, 20.0, 60.0, 100.0]
POINTS = make_points(((1, 1),), (8,), torch.device("cpu"), torch.float32)


def probabilities(class_logits: Tensor, alignment: Tensor | None = None) -> tuple[Tensor, Tensor]:
    predictions = Predictions(
        points=POINTS,
        class_logits=class_logits.reshape(1, -1, 1),
        boxes=torch.zeros(1, class_logits.numel(), 4),
        alignment_logits=None if alignment is None else alignment.reshape(1, -1),
    )
    hit, miss = predictions.log_probabilities()
    torch.testing.assert_close(hit.exp(), predictions.scores())
    return hit.flatten(), miss.flatten()


def grid() -> tuple[Tensor, Tensor]:
    x, y = torch.meshgrid(torch.tensor(EXTREMES), torch.tensor(EXTREMES), indexing="ij")
    return x.flatten().clone().requires_grad_(), y.flatten().clone().requires_grad_()


@given(st.floats(-15, 15), st.floats(-15, 15))
def test_log_probabilities_of_the_aligned_score(x: float, y: float) -> None:
    """log p and log(1 - p) of p = sqrt(s(x) s(y)), against the plain formula in float64."""
    a, b = torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    score = (a.sigmoid() * b.sigmoid()).sqrt()
    hit, miss = probabilities(a, b)
    torch.testing.assert_close(hit, score.log())
    torch.testing.assert_close(miss, torch.log1p(-score), rtol=1e-6, atol=1e-12)
    hit32, miss32 = probabilities(a.float(), b.float())
    torch.testing.assert_close(hit32.double(), hit, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(miss32.double(), miss, rtol=1e-5, atol=1e-6)


def test_score_gradient_is_score_times_half_the_complement() -> None:
    x, y = grid()
    hit, _ = probabilities(x, y)
    score = hit.exp()
    score.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (score * (-x).sigmoid() / 2).detach())


@pytest.mark.parametrize("target", [0.0, 0.7, 1.0])
def test_losses_are_finite_at_extreme_logits_and_keep_a_gradient_where_wrong(target: float) -> None:
    x, y = grid()
    hit, miss = probabilities(x, y)
    values = quality_focal_loss(hit, miss, torch.full_like(hit, target), beta=2.0)
    values = values + focal_loss(hit, miss, torch.full_like(hit, target) > 0.5, alpha=0.25, gamma=2.0)
    values.sum().backward()
    assert torch.isfinite(values).all()
    for logits in (x, y):
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()
    assert x.grad is not None
    hopeless = (x == -100) & (y == -100) if target else (x == 100) & (y == 100)
    wrong_way = x.grad[hopeless] < -0.1 if target else x.grad[hopeless] > 0.1
    assert wrong_way.all()


def test_quality_focal_loss_value_of_the_specification() -> None:
    score = torch.tensor(0.3, dtype=torch.float64)
    loss = quality_focal_loss(score.log(), (1 - score).log(), torch.tensor(0.9), beta=2.0)
    assert loss.item() == pytest.approx(0.402927, abs=1e-6)


@given(st.floats(-8, 8), st.booleans())
def test_focal_loss_is_the_textbook_formula(logit: float, positive: bool) -> None:
    p = torch.tensor(logit, dtype=torch.float64).sigmoid()
    hit, miss = probabilities(torch.tensor([logit], dtype=torch.float64))
    expected = -0.25 * (1 - p) ** 2 * p.log() if positive else -0.75 * p**2 * (1 - p).log()
    loss = focal_loss(hit, miss, torch.tensor([positive]), alpha=0.25, gamma=2.0)
    torch.testing.assert_close(loss[0], expected)


@given(st.floats(-30, 30), st.floats(0, 1))
def test_binary_cross_entropy_is_torchs(logit: float, target: float) -> None:
    x, y = torch.tensor(logit, dtype=torch.float64), torch.tensor(target, dtype=torch.float64)
    torch.testing.assert_close(binary_cross_entropy(x, y), F.binary_cross_entropy_with_logits(x, y))


@pytest.mark.parametrize(
    ("distance", "bins"), [(3.25, {3: 0.75, 4: 0.25}), (0.0, {0: 1.0}), (15.9, {15: 0.1, 16: 0.9})]
)
def test_distribution_focal_loss_weighs_the_two_neighbours(distance: float, bins: dict[int, float]) -> None:
    logits = torch.randn(17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = -sum(share * logits.log_softmax(0)[index] for index, share in bins.items())
    loss = distribution_focal_loss(logits, torch.tensor(distance, dtype=torch.float64))
    torch.testing.assert_close(loss, expected)


def test_giou_loss_of_a_perfect_and_a_distant_box() -> None:
    target = torch.tensor([0.0, 0, 10, 10])
    assert giou_loss(target, target) == pytest.approx(0)
    assert 1.9 < giou_loss(torch.tensor([1000.0, 0, 1010, 10]), target) < 2


def term(values: list[float], normaliser: float, **options: Any) -> LossTerm:
    return LossTerm("loss", torch.tensor([values]), torch.tensor([normaliser]), **options)


def test_combine_divides_by_the_floored_normaliser() -> None:
    assert combine([term([1.0, 2.0], 4.0)])["loss"] == pytest.approx(0.75)
    assert combine([term([1.0, 2.0], 0.25)])["loss"] == pytest.approx(3)
    assert combine([term([1.0, 2.0], 1.0, epsilon=1.0)])["loss"] == pytest.approx(1.5)


@pytest.mark.parametrize("shares", [(3.0, 5.0), (0.0, 0.4), (0.0, 0.0)])
def test_mean_over_processes_equals_one_process(shares: tuple[float, float]) -> None:
    """Averaging the gradients of k ranks is one rank with the whole batch, also below the floor."""
    sums = ([1.0, 2.0], [4.0])
    whole = combine([term([1.0, 2.0, 4.0], sum(shares))])["loss"]
    own = [[term(values, share)] for values, share in zip(sums, shares, strict=True)]
    total = torch.stack([divisor_shares(terms) for terms in own]).sum(0)
    ranks = [combine(terms, divisors(terms, total), world_size=2)["loss"] for terms in own]
    torch.testing.assert_close(sum(ranks) / 2, whole)


def test_a_running_divisor_is_the_mean_over_steps_from_its_initial_value() -> None:
    rule = Running(momentum=0.75, initial=100.0)
    terms = [term([1.0], 20.0, running=rule), LossTerm("plain", torch.ones(1, 1), torch.tensor([4.0]))]
    first = divisors(terms)
    assert {name: value.item() for name, value in first.items()} == {"loss": 80.0, "plain": 4.0}
    means = running_means(terms, first)
    assert list(means) == ["loss"]
    second = divisors([term([1.0], 0.0, running=rule)], means=means)
    assert second["loss"] == pytest.approx(0.75 * 80 + 0.25 * 1), "the floor holds for each step's own divisor"
    assert combine([term([30.125], 0.0, running=rule)], second)["loss"] == pytest.approx(0.5)
