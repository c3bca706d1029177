"""Schedule configuration: length, optimiser, learning rate, images."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tood.config.base import Batch, Config, Epochs, PositiveFloat, PositiveInt, Share, Steps, refuse
from tood.config.images import ImagesConfig

_EPOCHS = 12
_MILESTONES = [8, 11]
_MILESTONE_SHARES = [0.7, 0.9]
_EVALUATIONS = 5
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
    milestones: list[PositiveInt] = Field([], description="Epochs after which the rate is multiplied by gamma.")
    milestone_shares: list[Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(
        [], description="The same as shares of the steps, where the length is given in steps."
    )
    gamma: Share = 0.1
    batch: Batch = Field(16, description="Images per optimiser step over all processes.")
    group: PositiveInt | None = Field(
        None,
        description="Images that belong together: they share an orientation and their padding, and some methods "
        "normalise and rank over them; as published, those of one GPU. All of a step where it is not given.",
    )
    lr: PositiveFloat = Field(0.01, description="Learning rate at lr_batch images a step; scaled linearly.")
    lr_batch: Batch = 16
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    warmup: WarmupConfig = WarmupConfig()
    grad_clip: PositiveFloat | None = None
    ema: EmaConfig | None = None
    repeat: RepeatConfig | None = None
    precision: Literal["float32", "tf32", "bf16", "auto"] = Field(
        "float32",
        description="Number format of the training: float32 is IEEE's also on GPUs, tf32 their faster one; auto is "
        "bf16 where the hardware computes it natively.",
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
            return {"epochs": _EPOCHS, "milestones": _MILESTONES, **value}
        return {"milestone_shares": _MILESTONE_SHARES, "evaluations": _EVALUATIONS, **value}

    @model_validator(mode="after")
    def _parts_fit(self) -> "ScheduleConfig":
        problems = []
        if (self.epochs is None) == (self.steps is None):
            problems.append("give either 'epochs' or 'steps'")
        if self.epochs is not None:
            if not _increase(self.milestones) or any(one >= self.epochs for one in self.milestones):
                problems.append("milestones must increase and lie below epochs")
            if self.milestone_shares:
                problems.append("milestone_shares goes with 'steps'; with 'epochs' give milestones")
        else:
            if not _increase(self.milestone_shares):
                problems.append("milestone_shares must increase")
            if self.milestones:
                problems.append("milestones goes with 'epochs'; with 'steps' give milestone_shares")
            if self.evaluations is None:
                problems.append("evaluations must be given with 'steps'")
        if self.group is not None and self.batch % self.group:
            problems.append(f"batch {self.batch} is no multiple of group {self.group}")
        refuse(problems)
        return self

    @property
    def groups(self) -> int:
        """Groups of a step."""
        return 1 if self.group is None else self.batch // self.group


def _increase(values: Sequence[float]) -> bool:
    return sorted(set(values)) == list(values)
