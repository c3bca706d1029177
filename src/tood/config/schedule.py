"""Schedule configuration: length, optimiser, learning rate, images."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tood.config.base import Batch, Config, Epochs, PositiveFloat, PositiveInt, Share, Steps, refuse
from tood.config.images import ImagesConfig

_EPOCHS = 12
_MILESTONES: list[int | float] = [8, 11]
_MILESTONE_SHARES = [0.7, 0.9]
_OptimiserSteps = Annotated[int, Field(ge=1, le=10**9)]


class WarmupConfig(Config):
    """Linear warm-up of the learning rate."""

    iterations: Steps = 500
    share: Share | None = Field(None, description="Instead of iterations: a share of all steps.")
    ratio: Share = 0.001

    def steps(self, total: int) -> int:
        """Its length in a training of ``total`` steps."""
        return self.iterations if self.share is None else round(self.share * total)


class StepsConfig(Config):
    """Length of a training from the data: ``base`` steps at 200 images of 8, growing with the root of their number.

    The number of steps is ``base * sqrt(images / 200)``, at least ``least`` and at most ``most``, rounded to tens.
    """

    base: _OptimiserSteps = 1200
    least: _OptimiserSteps = 800
    most: _OptimiserSteps = 20_000

    @model_validator(mode="after")
    def _is_ordered(self) -> "StepsConfig":
        if self.most < self.least:
            raise ValueError("most must not be below least")
        return self


class EmaConfig(Config):
    """Exponential moving average of the weights, which is what is evaluated and kept.

    After step t (from 1) the average moves towards the weights by 1 - min(decay, t / (t + 9)): the horizon grows with
    the training, up to the one of ``decay``.
    """

    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9998


class RepeatConfig(Config):
    """Repetition of images with rare classes (repeat factor sampling; Gupta et al. 2019, LVIS).

    An image is seen max(1, sqrt(threshold / f)) times an epoch on average, where f is the share of images that have its
    rarest class.
    """

    threshold: Share = 0.1


class ScheduleConfig(Config):
    name: str
    epochs: Epochs | None = Field(None, description="12 unless steps are given.")
    steps: _OptimiserSteps | StepsConfig | None = Field(
        None, description="Instead of epochs: optimiser steps, or the bounds of a number that follows from the data."
    )
    milestones: list[PositiveInt | Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(
        _MILESTONES, description="Epochs after which the rate is multiplied by gamma; with steps, shares of them."
    )
    gamma: Share = 0.1
    batch: Batch = Field(16, description="Images per optimiser step over all processes.")
    lr: PositiveFloat = Field(0.01, description="Learning rate at lr_batch images a step; scaled linearly.")
    lr_batch: Batch = 16
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    warmup: WarmupConfig = WarmupConfig()
    grad_clip: PositiveFloat | None = None
    ema: EmaConfig | None = None
    repeat: RepeatConfig | None = None
    precision: Literal["float32", "bf16", "auto"] = Field(
        "float32", description="auto is bf16 where the hardware computes it natively."
    )
    images: ImagesConfig = ImagesConfig()
    drop_empty: bool = Field(
        False,
        description="Train without images that have no annotation or a side below 32 px, as the paper did; a data set "
        "may decide otherwise, and own data keep them.",
    )
    evaluate_every: PositiveInt = Field(1, description="Epochs between evaluations on the val split.")
    evaluations: PositiveInt | None = Field(
        None, description="Instead of evaluate_every: how often the val split is evaluated, evenly, last at the end."
    )
    checkpoint_every: PositiveInt = Field(1000, description="Steps between checkpoints, besides each epoch's end.")

    @model_validator(mode="before")
    @classmethod
    def _with_its_length(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if value.get("steps") is None:
            return {**value, "epochs": _EPOCHS} if value.get("epochs") is None else value
        counted_in_steps = {"milestones": _MILESTONE_SHARES, "evaluations": 8}
        return {**counted_in_steps, **value}

    @model_validator(mode="after")
    def _parts_fit(self) -> "ScheduleConfig":
        problems = []
        if self.epochs is not None and self.steps is not None:
            problems.append("give either 'epochs' or 'steps'")
        elif self.epochs is not None:
            if not all(isinstance(one, int) and one < self.epochs for one in self.milestones) or not self._increase():
                problems.append("milestones must be whole epochs that increase and lie below epochs")
        elif not all(isinstance(one, float) for one in self.milestones) or not self._increase():
            problems.append("milestones must be shares of the steps, between 0 and 1, that increase")
        if self.steps is not None and self.evaluations is None:
            problems.append("evaluations must be given where the length is given in steps")
        refuse(problems)
        return self

    def _increase(self) -> bool:
        return sorted(set(self.milestones)) == list(self.milestones)
