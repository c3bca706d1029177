"""Base class of configuration models: immutable, unknown fields are errors, true and false are not numbers."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Channels = Annotated[int, Field(ge=1, le=65536)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
Batch = Annotated[int, Field(ge=1, le=65536)]
"""Images of a step; detectors are not trained with more than a few thousand."""
Epochs = Annotated[int, Field(ge=1, le=100_000)]
Steps = Annotated[int, Field(ge=0, le=10**9)]
GeneratedImages = Annotated[int, Field(ge=1, le=10_000_000)]


class PlainNumbers(BaseModel):
    """A model whose numbers are finite and none of them true or false, which Python would take for 1 and 0."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_truth_values(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        numbers = [name for name in cls.model_fields if name in value and _is_of_numbers(cls, name)]
        return {**value, **{name: _without_truth_value(value[name]) for name in numbers}}


class Config(PlainNumbers):
    """A validated, immutable part of the configuration."""

    model_config = ConfigDict(extra="forbid")


def refuse(problems: Sequence[str]) -> None:
    """Let a validator raise all problems that it found at once; each becomes a sentence of its own."""
    if problems:
        raise ValueError(*problems)


class TruthValue:
    """Replaces true or false where a number is expected, so that pydantic refuses it; its repr is the original's."""

    def __init__(self, value: bool) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def _without_truth_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_truth_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_truth_value(item) for item in value]
    return TruthValue(value) if isinstance(value, bool) else value


def _is_of_numbers(model: type[BaseModel], name: str) -> bool:
    kinds = _types_in(model.model_fields[name].annotation)
    return bool not in kinds and not kinds.isdisjoint((int, float))


def _types_in(annotation: Any) -> set[Any]:
    """The types that an annotation is made of; the fields of models among them are checked by those models."""
    if isinstance(annotation, type) and not get_args(annotation):
        return {annotation}
    return {kind for inner in get_args(annotation) for kind in _types_in(inner)}
