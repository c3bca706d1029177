"""Backbone configuration: architecture, starting weights, width of neck and head."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tood.config.base import Batch, Channels, Config, Epochs, GeneratedImages, PositiveFloat, PositiveInt, refuse
from tood.config.blocks import load_block
from tood.config.packaged import PACKAGED

_ADDRESS = re.compile(r"https?://\S+-(?P<digits>[0-9a-f]{8,64})\.pth?")
_EARLIER_NAMES = {"trunk_width": "first_stage_width"}


class PretrainingConfig(Config):
    """Pretraining of a backbone on crops of generated shapes."""

    crops: GeneratedImages = 6000
    size: Annotated[int, Field(ge=32, le=1024)] = Field(64, description="Pixels per side of a crop.")
    epochs: Epochs = 4
    batch: Batch = 64
    lr: PositiveFloat = 0.1
    seed: int = Field(1000, ge=0, description="Also of the crops; keep it apart from the seeds of any split.")


_Channel = Annotated[float, Field(ge=0, le=255)]
_Spread = Annotated[float, Field(gt=0, le=255)]


class PixelsConfig(Config):
    """Normalisation of pixels, which belongs to a backbone's weights: (value - mean) / std of red, green and blue."""

    mean: tuple[_Channel, _Channel, _Channel] = Field((123.675, 116.28, 103.53), description="0 to 255.")
    std: tuple[_Spread, _Spread, _Spread] = Field((58.395, 57.12, 57.375), description="0 to 255.")


class BackboneConfig(Config):
    name: str
    kind: Literal[
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnext50_32x4d",
        "resnext101_32x4d",
        "resnext101_64x4d",
        "light",
        "timm",
    ]
    model: str | None = Field(None, description="Name of the library timm's model; of kind timm alone.")
    weights: str = Field(
        "none",
        description="'imagenet' (torchvision's or timm's), 'packaged' (from an installed package), 'none', 'generated' "
        "(backbone pretrained on generated crops), a file, or an address.",
    )
    pixels: PixelsConfig = Field(PixelsConfig(), description="By default as torchvision's ImageNet weights take them.")
    frozen_stages: Annotated[int, Field(ge=0, le=4)] | None = Field(
        None,
        description="Stages without gradient; by default stem and stage 1 from weights, none from scratch.",
    )
    norm: Literal["batch", "frozen_statistics"] | None = Field(
        None, description="By default running statistics are frozen when starting from weights."
    )
    deformable: tuple[Literal["c3", "c4", "c5"], ...] = Field(
        (), description="Stages whose 3x3 convolutions are modulated deformable ones (DCNv2)."
    )
    width: Channels = Field(256, description="Channels of neck and head.")
    norm_groups: PositiveInt = Field(32, description="Groups of the head's group normalisation.")
    first_stage_width: Channels = Field(16, description="Channels of the first stage of the light backbone.")
    pretraining: PretrainingConfig = PretrainingConfig()

    @model_validator(mode="before")
    @classmethod
    def _accept_earlier_names(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            both = [(old, new) for old, new in _EARLIER_NAMES.items() if old in value and new in value]
            refuse([f"{old} is the earlier name of {new}; keep one" for old, new in both])
        return with_current_names(value)

    @model_validator(mode="after")
    def _parts_fit(self) -> "BackboneConfig":
        problems = []
        if len(set(self.deformable)) != len(self.deformable):
            problems.append("deformable names a stage twice")
        if self.width % self.norm_groups != 0:
            problems.append(f"width {self.width} must be a multiple of norm_groups {self.norm_groups}")
        if (self.kind == "timm") != (self.model is not None):
            problems.append("model (a name of the library timm) goes with kind 'timm' and with no other")
        if self.kind == "timm" and self.deformable:
            problems.append("deformable goes with torchvision's and the light backbones, not with kind 'timm'")
        if self.weights == "packaged" and self.model not in PACKAGED:
            problems.append(f"weights 'packaged' are there for the models {', '.join(PACKAGED)} of kind 'timm' only")
        refuse(problems)
        return self

    @property
    def starts_from_weights(self) -> bool:
        return self.weights != "none"

    @property
    def frozen_statistics(self) -> bool:
        """Whether batch normalisations keep their running statistics, as they do when starting from weights."""
        return self.starts_from_weights if self.norm is None else self.norm == "frozen_statistics"


def with_current_names(backbone: Any) -> Any:
    """The fields of a backbone under the names that they have now; files and results may have earlier ones."""
    if not isinstance(backbone, Mapping):
        return backbone
    return {_EARLIER_NAMES.get(name, name): value for name, value in backbone.items()}


def address_digest(address: str) -> str | None:
    """The first digits of a file's SHA-256, with which its published name ends, as in ``name-0123abcd.pth``."""
    found = _ADDRESS.fullmatch(address)
    return found["digits"] if found else None


def load_backbone(name: str, params: Path, named_in: str | None = None) -> BackboneConfig:
    """The backbone described by ``params/backbones/<name>.yaml``; ``named_in`` is where the user named it."""
    config: BackboneConfig = load_block(params, "backbones", name, BackboneConfig, named_in or f"backbone '{name}'")
    return config
