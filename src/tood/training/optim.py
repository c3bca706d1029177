"""SGD optimiser and learning-rate schedule: linear warm-up, then steps (the paper's supplement, Optimization)."""

from dataclasses import dataclass

import torch
from torch import nn

from tood.config.schedule import ScheduleConfig


def base_learning_rate(schedule: ScheduleConfig) -> float:
    """The schedule's rate scaled linearly to its effective batch."""
    return schedule.lr * schedule.batch / schedule.lr_batch


@dataclass(frozen=True)
class LearningRate:
    """The rate of every step of a training."""

    base: float
    milestones: tuple[int, ...]
    """Steps from which it is multiplied by ``gamma`` once more."""
    gamma: float
    warmup: int
    """Steps of the linear warm-up."""
    ratio: float
    """Where the warm-up begins, as a share of the rate."""

    @classmethod
    def of(cls, schedule: ScheduleConfig, steps: int, per_epoch: int) -> "LearningRate":
        """The schedule in a training of so many ``steps``."""
        milestones = (
            *(end * per_epoch for end in schedule.milestones),
            *(round(end * steps) for end in schedule.milestone_shares),
        )
        warmup = schedule.warmup
        return cls(base_learning_rate(schedule), milestones, schedule.gamma, warmup.steps(steps), warmup.ratio)

    def at(self, step: int) -> float:
        """The rate of the 0-based ``step``."""
        rate = self.base * self.gamma ** sum(step >= end for end in self.milestones)
        if step < self.warmup:
            rate *= self.ratio + (1.0 - self.ratio) * step / self.warmup
        return rate


def build_optimiser(model: nn.Module, schedule: ScheduleConfig) -> torch.optim.SGD:
    """SGD over every trainable parameter; weight decay on norms and biases too, as the reference has it."""
    return torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=base_learning_rate(schedule),
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
        fused=True,
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
