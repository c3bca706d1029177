"""Learning rate and optimiser (supplement, Optimization)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tood.config.schedule import ScheduleConfig, WarmupConfig
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


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, "0x1.a36e2eb1c432dp-13"),
        (1, "0x1.a1554fbdad752p-12"),
        (36, "0x1.e03f705857affp-8"),
        (99, "0x1.446f9b994e1a5p-6"),
        (100, "0x1.47ae147ae147bp-6"),
        (147, "0x1.47ae147ae147bp-6"),
        (148, "0x1.0624dd2f1a9fcp-9"),
        (184, "0x1.0624dd2f1a9fcp-9"),
        (185, "0x1.a36e2eb1c432ep-13"),
        (221, "0x1.a36e2eb1c432ep-13"),
    ],
)
def test_rates_of_epochs_are_those_of_the_versions_before_to_the_bit(step: int, rate: str) -> None:
    """Of the schedule ``demo`` with 37 steps an epoch."""
    demo = ScheduleConfig(
        name="demo", epochs=6, milestones=[4, 5], lr=0.02, warmup=WarmupConfig(iterations=100, ratio=0.01)
    )
    assert LearningRate.of(demo, 6 * 37, 37).at(step).hex() == rate


def test_milestones_and_warm_up_may_be_shares_of_the_steps() -> None:
    schedule = ScheduleConfig(
        name="x", steps=1000, milestone_shares=[0.7, 0.9], lr=0.5, warmup=WarmupConfig(share=0.02, ratio=0.1)
    )
    rate = LearningRate.of(schedule, 1000, 33)
    assert [rate.at(step) for step in (0, 10, 20, 699, 700, 899, 900, 999)] == pytest.approx(
        [0.05, 0.275, 0.5, 0.5, 0.05, 0.05, 0.005, 0.005]
    )
    assert LearningRate.of(schedule, 10, 33).milestones == (7, 9)


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
