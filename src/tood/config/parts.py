"""Assigners and criteria chosen by ``kind``: those of this package, and custom classes from a file of the project.

A part is one class in one file. Its fields are its options in YAML, and it validates them. It is imported only when
a configuration names it.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal, Self, TypeVar, cast, get_args

from pydantic import ConfigDict, ModelWrapValidatorHandler, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from tood.config.base import Config

ASSIGNERS = {
    "atss": "tood.detection.assigners.atss:AtssAssigner",
    "max_iou": "tood.detection.assigners.max_iou:MaxIouAssigner",
    "center_sampling": "tood.detection.assigners.center_sampling:CenterSamplingAssigner",
    "task_aligned": "tood.detection.assigners.task_aligned:TaskAlignedAssigner",
}
"""Which class an assigner's ``kind`` means."""

CRITERIA = {
    "task_aligned": "tood.detection.criteria.task_aligned:TaskAlignedCriterion",
    "focal": "tood.detection.criteria.focal:FocalCriterion",
    "gfl": "tood.detection.criteria.gfl:GflCriterion",
    "paa": "tood.detection.criteria.paa:Paa",
    "free_anchor": "tood.detection.criteria.free_anchor:FreeAnchor",
    "mal": "tood.detection.criteria.mal:Mal",
    "pisa": "tood.detection.criteria.pisa:Pisa",
    "noisy_anchor": "tood.detection.criteria.noisy_anchor:NoisyAnchor",
}
"""Which class a criterion's ``kind`` means."""

HeadOutput = Literal["bins", "quality", "deltas"]
"""What some heads predict besides class logits and boxes: bins of distances, a quality logit, anchor deltas."""

_OWN = "tood_own_"

STORED = {"parts": "stored"}
"""Validation context that keeps parts as they are written, so that a finished model needs no code of custom parts."""


class Part(Config):
    """A part of a method; ``kind`` is a listed name or ``<file below the project's folder>.py:<class>``."""

    listed: ClassVar[Mapping[str, str]] = {}
    kind: str

    @model_validator(mode="wrap")
    @classmethod
    def _by_kind(cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if "listed" not in vars(cls) or isinstance(value, cls) or not isinstance(value, Mapping):
            return handler(value)
        if info.context == STORED:
            return cast(Self, StoredCriterion.model_validate(value))
        return cls.of_kind(value).model_validate(value)

    @model_validator(mode="after")
    def _is_of_its_kind(self) -> Self:
        shipped = type(self).model_fields["kind"].default
        if isinstance(shipped, str) and self.kind != shipped and not is_own(type(self)):
            raise ValueError(f"kind must be '{shipped}' here")
        return self

    @classmethod
    def of_kind(cls, value: Mapping[str, Any]) -> type[Self]:
        """The class that ``value`` names; a pydantic error says why there is none."""
        if "kind" not in value:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": "'kind'"})
        kind = value["kind"]
        if isinstance(kind, str) and ".py:" in kind:
            return _own_class(cls, kind)
        if not isinstance(kind, str) or kind not in cls.listed:
            names = ", ".join(f"'{name}'" for name in cls.listed)
            context = {"discriminator": "'kind'", "tag": str(kind), "expected_tags": names}
            raise PydanticKnownError("union_tag_invalid", context)
        module, _, name = cls.listed[kind].partition(":")
        found: type[Self] = getattr(importlib.import_module(module), name)
        return found


P = TypeVar("P", bound=Part)


Over = Literal["step", "group"]


class CriterionPart(Part):
    """A criterion as configurations check it; one that trains is a ``tood.detection.criteria.base.Criterion``."""

    listed: ClassVar[Mapping[str, str]] = CRITERIA

    @property
    def over(self) -> Over:
        """Over which images losses are normalised, and samples compared: all of a step, or each group by itself."""
        return "step"

    @property
    def needs(self) -> frozenset[HeadOutput]:
        """What the head must predict."""
        return frozenset()

    @property
    def trains(self) -> frozenset[HeadOutput]:
        """The head's outputs besides class logits and boxes that it has a loss for."""
        return self.needs

    @property
    def several_anchors(self) -> bool:
        """Whether it is defined for several anchors a location."""
        return False

    def for_schedule(self, epochs: int) -> Self:
        """The same criterion with options that count epochs (out of ``epochs``) as shares of the schedule."""
        return self


class StoredCriterion(CriterionPart):
    """A criterion as a finished model names it, with any options; it cannot train."""

    model_config = ConfigDict(extra="allow")

    @property
    def trains(self) -> frozenset[HeadOutput]:
        return frozenset(get_args(HeadOutput))

    @property
    def several_anchors(self) -> bool:
        return True


def parts_of(config: Config) -> Iterator[Part]:
    """The parts in a configuration, from the outside in."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Part):
            yield value
        if isinstance(value, Config):
            yield from parts_of(value)


def code_of(config: Config) -> list[Path]:
    """The files of the classes that a configuration names by ``kind``."""
    classes = {type(part) for part in parts_of(config)}
    return sorted({Path(inspect.getfile(found)) for found in classes if found.__module__ != __name__})


def _own_class(base: type[P], kind: str) -> type[P]:
    file, _, name = kind.partition(".py:")
    path = Path(f"{file}.py")
    if path.is_absolute() or not path.resolve().is_relative_to(Path.cwd()):
        raise _unusable("name a file below the project's folder")
    if not os.path.isfile(path):
        raise _unusable(f"but there is no file {path}; run this in the project's folder")
    module = _own_module(path)
    known = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    }
    if name not in known:
        said = f"that has {' and '.join(known)}" if known else "that has none"
        raise _unusable(f"but {path} must have a class {name} derived from {_public_name(base)}; {said}")
    missing = sorted(getattr(known[name], "__abstractmethods__", ()))
    if missing:
        raise _unusable(f"but {name} in {path} must also define {' and '.join(missing)}")
    return known[name]


def is_own(part: type[Part]) -> bool:
    return part.__module__.startswith(_OWN)


def _own_module(path: Path) -> ModuleType:
    """The module of a file, imported once for each content.

    Compiled from the text that was read: Python's bytecode cache mistakes a file of equal size and second for the same.
    """
    path = path.resolve()
    content = path.read_bytes()
    name = f"{_OWN}{sha256(str(path).encode() + content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(content, str(path), "exec"), vars(module))
    except Exception as error:
        del sys.modules[name]
        lines = [line for frame, line in _frames(error) if frame == str(path)]
        place = f" (line {lines[-1]})" if lines else ""
        said = " ".join(str(error).split())
        raise _unusable(f"which cannot be imported: {type(error).__name__}: {said}{place}") from error
    return module


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        yield error.filename, error.lineno
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next


def _public_name(base: type[Part]) -> str:
    if base is CriterionPart:
        return "tood.detection.criteria.base.Criterion"
    return f"{base.__module__}.{base.__qualname__}"


def _unusable(reason: str) -> PydanticCustomError:
    return PydanticCustomError("unusable_part", "{reason}", {"reason": reason})
