"""Learning rate and optimiser (supplement, Optimization)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tood.config.schedule import ScheduleConfig
from tood.training.optim import LearningRate, base_learning_rate, build_optimiser

PAPER = ScheduleConfig(name="1x")
PER_EPOCH = 7330  # of COCO


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.01 * 0.001),
        (250, 0.01 * (0.001 + 0.999 * 0.5)),
        (500, 0.01),
        (7329, 0.01),
        (7330 * 8 - 1, 0.01),
        (7330 * 8, 0.001),
        (7330 * 11, 0.0001),
    ],
)
def test_the_paper_schedule(step: int, rate: float) -> None:
    assert LearningRate.of(PAPER, 12 * PER_EPOCH, PER_EPOCH).at(step) == pytest.approx(rate, rel=1e-12)


@given(st.integers(1, 512))
def test_the_rate_scales_with_the_effective_batch(batch: int) -> None:
    schedule = PAPER.model_copy(update={"batch": batch})
    assert base_learning_rate(schedule) == pytest.approx(0.01 * batch / 16)


def test_weight_decay_reaches_every_trainable_parameter() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.GroupNorm(2, 4), torch.nn.Conv2d(4, 1, 1))
    model[0].requires_grad_(False)
    optimiser = build_optimiser(model, PAPER)
    (group,) = optimiser.param_groups
    assert len(group["params"]) == 4
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 1e-4, False)
