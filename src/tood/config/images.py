"""Images configuration: size of the network's input and augmentation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tood.config.base import Config, PositiveFloat, Share, refuse

Side = Annotated[int, Field(ge=32, le=65536)]
"""Pixels, from one padded cell to more than fits into memory."""
_Factor = Annotated[float, Field(ge=0.1, le=10.0)]


class FitConfig(Config):
    """Input size from the data: as large as the small objects need, within bounds, in the shape of most images."""

    least: Side = Field(336, description="Side px of a square with the input's area, for large objects.")
    most: Side = Field(640, description="The same, however small the objects are.")
    object_side: PositiveFloat = Field(
        24.0, description="Square root (px) of the area that small objects are to have in the input."
    )
    quantile: Share = Field(0.1, description="Small objects: this share of all is smaller.")

    @model_validator(mode="after")
    def _is_ordered(self) -> "FitConfig":
        if self.most < self.least:
            raise ValueError("most must not be below least")
        return self


class CropConfig(Config):
    """Random crops that keep objects to a drawn intersection over union (SSD; Liu et al. 2016)."""

    probability: Share = 0.5
    smallest: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.3, description="Sides of the smallest crop as a share of the image's."
    )


class ImagesConfig(Config):
    """Network inputs: keep-ratio resize, and in training jitter, crops, flips and photometric distortion."""

    short: Side = Field(800, description="Shorter side at test time, and in training unless jittered.")
    long: Side = Field(1333, description="The longer side never exceeds this.")
    fit: FitConfig | None = Field(None, description="Instead of short and long: both from the data.")
    jitter: tuple[Side, Side] | None = Field(
        None, description="Training draws the shorter side of each image uniformly from these integers, both included."
    )
    scale_jitter: tuple[_Factor, _Factor] | None = Field(
        None, description="Training draws a factor of both sides for each step, uniformly between these."
    )
    crop: CropConfig | None = None
    photometric: Share = Field(0.0, description="Share of the images whose brightness, contrast and colours change.")
    flip: Share = 0.5
    antialias: bool = Field(
        False,
        description=(
            "Every pixel counts where a picture is shrunk, and JPEGs far larger than needed are decoded at a part of "
            "their size; false is plain bilinear, as in the reference implementations."
        ),
    )

    padded_sizes: Annotated[int, Field(ge=2, le=1000)] | None = Field(
        None,
        description="Training pads to at most so many sizes, chosen for the data, as GPUs that prepare themselves for "
        "each size like it; null: to multiples of 32, as published.",
    )
    resize: Literal["exact", "opencv"] = Field(
        "exact",
        description="opencv rounds as OpenCV's bilinear resize, which the checkpoints of other code bases were trained "
        "with: a level off in a sixth of the pixels. Needs the extra 'opencv'.",
    )

    @model_validator(mode="after")
    def _is_ordered(self) -> "ImagesConfig":
        problems = []
        if self.resize == "opencv" and self.antialias:
            problems.append("resize 'opencv' is without antialias; set antialias to false")
        for name in ("jitter", "scale_jitter"):
            bounds = getattr(self, name)
            if bounds is not None and bounds[0] > bounds[1]:
                problems.append(f"{name} must be [smallest, largest]")
        if self.jitter is not None and self.scale_jitter is not None:
            problems.append("give either 'jitter' (of each image) or 'scale_jitter' (of each step)")
        if self.long < self.short:
            problems.append("long must not be below short")
        if self.fit is not None:
            fixed = [name for name in ("short", "long", "jitter") if getattr(self, name) != _default(name)]
            problems += [f"{name} cannot be given beside 'fit', which sets the size" for name in fixed]
        refuse(problems)
        return self

    @property
    def scales(self) -> tuple[float, float]:
        """The smallest and the largest factor of a step."""
        return self.scale_jitter or (1.0, 1.0)


def _default(name: str) -> object:
    return ImagesConfig.model_fields[name].default
