"""What every configuration model shares: frozen, and unknown fields refused."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Channels = Annotated[int, Field(ge=1, le=65536)]
PositiveFloat = Annotated[float, Field(gt=0.0)]


class Config(BaseModel):
    """A validated, immutable part of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
