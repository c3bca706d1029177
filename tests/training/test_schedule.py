"""Learning rate and optimiser (supplement, Optimization)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tood.config.schedule import ScheduleConfig
from tood.training.optim import base_learning_rate, build_optimiser, learning_rate

PAPER = ScheduleConfig(name="1x")


@pytest.mark.parametrize(
    ("step", "epoch", "rate"),
    [
        (0, 0, 0.01 * 0.001),
        (250, 0, 0.01 * (0.001 + 0.999 * 0.5)),
        (500, 0, 0.01),
        (7329, 0, 0.01),
        (7330 * 8 - 1, 7, 0.01),
        (7330 * 8, 8, 0.001),
        (7330 * 11, 11, 0.0001),
    ],
)
def test_the_paper_schedule(step: int, epoch: int, rate: float) -> None:
    assert learning_rate(PAPER, step, epoch) == pytest.approx(rate, rel=1e-12)


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
