"""Schedule configuration: epochs, optimiser, learning rate, image sizes."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tood.config.base import Batch, Config, Epochs, PositiveFloat, PositiveInt, Share, Steps, refuse

Side = Annotated[int, Field(ge=32, le=65536)]
"""Pixels, from one padded cell to more than fits into memory."""


class ImagesConfig(Config):
    """Geometry of network inputs: keep-ratio resize, jitter, flip."""

    short: Side = Field(800, description="Shorter side at test time, and in training unless jittered.")
    long: Side = Field(1333, description="The longer side never exceeds this.")
    jitter: tuple[Side, Side] | None = Field(
        None, description="Training draws the shorter side uniformly from these integers, both included."
    )
    flip: Share = 0.5
    antialias: bool = Field(False, description="False is plain bilinear, as in the reference implementations.")

    @model_validator(mode="after")
    def _is_ordered(self) -> "ImagesConfig":
        problems = []
        if self.jitter is not None and self.jitter[0] > self.jitter[1]:
            problems.append("jitter must be [smallest, largest]")
        if self.long < self.short:
            problems.append("long must not be below short")
        refuse(problems)
        return self


class WarmupConfig(Config):
    """Linear warm-up of the learning rate."""

    iterations: Steps = 500
    ratio: Share = 0.001


class ScheduleConfig(Config):
    name: str
    epochs: Epochs = 12
    milestones: list[PositiveInt] = Field([8, 11], description="Epochs after which the rate is multiplied by gamma.")
    gamma: Share = 0.1
    batch: Batch = Field(16, description="Images per optimiser step over all processes.")
    lr: PositiveFloat = Field(0.01, description="Learning rate at lr_batch images a step; scaled linearly.")
    lr_batch: Batch = 16
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    warmup: WarmupConfig = WarmupConfig()
    grad_clip: PositiveFloat | None = None
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
    checkpoint_every: PositiveInt = Field(1000, description="Steps between checkpoints, besides each epoch's end.")

    @model_validator(mode="after")
    def _milestones_in_range(self) -> "ScheduleConfig":
        if sorted(set(self.milestones)) != self.milestones or any(m >= self.epochs for m in self.milestones):
            raise ValueError("milestones must increase and lie below epochs")
        return self
