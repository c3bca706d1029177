"""SGD optimiser and learning-rate schedule: linear warm-up, then steps (the paper's supplement, Optimization)."""

import torch
from torch import nn

from tood.config.schedule import ScheduleConfig


def base_learning_rate(schedule: ScheduleConfig) -> float:
    """The schedule's rate scaled linearly to its effective batch."""
    return schedule.lr * schedule.batch / schedule.lr_batch


def learning_rate(schedule: ScheduleConfig, step: int, epoch: int) -> float:
    """The rate of the 0-based ``step``, which belongs to the 0-based ``epoch``."""
    rate = base_learning_rate(schedule) * schedule.gamma ** sum(epoch >= end for end in schedule.milestones)
    warmup = schedule.warmup
    if step < warmup.iterations:
        rate *= warmup.ratio + (1.0 - warmup.ratio) * step / warmup.iterations
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
