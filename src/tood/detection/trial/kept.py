"""What a method keeps between two steps: every value that its parts, their classes and their files can hold on to."""

import functools
import gc
import inspect
import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from tood.config.parts import Part

_MOST_VALUES = 50_000
_MOST_ITEMS = 10_000
"""Of one container; a longer one is known by its length alone."""
_DEEPEST = 20
_LARGE = 1 << 22
"""Elements from which a tensor is known by its version instead of its content."""
_OPAQUE = frozenset({"abc", "enum", "logging", "pathlib", "pydantic", "pydantic_core", "re", "threading", "typing"})
"""Libraries whose objects are no state of a method: loggers, paths, patterns, types."""
_NOT_OF_A_METHOD = ("abc", "builtins", "pydantic", "tood.config", "typing")
_GLOBAL_GENERATORS = (random._inst, np.random.mtrand._rand)  # type: ignore[attr-defined]
"""Methods of theirs are imported as functions; whether they are used shows in their state."""
GENERATORS = (torch.Generator, Random, np.random.Generator, np.random.RandomState, np.random.BitGenerator)


@dataclass(frozen=True, eq=False)
class Kept:
    """A value that outlives a call."""

    part: type[Part]
    """Whose code can reach it."""
    place: str
    """Where it is, as one writes it: ``self._mean``, ``STATE['mean']``."""
    value: Any
    content: object
    """Equal as long as the value is."""
    pure: bool
    """Kept by a cache of results, where it may appear at any time, but not change."""


Snapshot = Mapping[tuple[str, str], Kept]
"""By file and place."""


def look(parts: Sequence[Part]) -> Snapshot:
    """Everything that the parts of a method keep now."""
    walk = _Walk(frozenset(_files(parts)), {id(part) for part in parts})
    for part in parts:
        walk.enter(type(part))
        walk.model(part, "self", False)
    for part in parts:
        for owner in _own_classes(type(part)):
            walk.enter(type(part))
            walk.visit(owner, owner.__name__, False)
            walk.of_module(sys.modules[owner.__module__])
    return walk.found


def changed(before: Snapshot, after: Snapshot) -> list[Kept]:
    """What appeared, is another or (as it was) is gone, the outermost of each; caches may fill and empty."""
    found = [
        kept for key, kept in after.items() if (kept.content != before[key].content if key in before else not kept.pure)
    ]
    found += [kept for key, kept in before.items() if key not in after and not kept.pure]
    chosen: list[Kept] = []
    for kept in sorted(found, key=lambda one: len(one.place)):
        if not any(
            one.part is kept.part and kept.place.startswith((f"{one.place}[", f"{one.place}.")) for one in chosen
        ):
            chosen.append(kept)
    return chosen


def caches(parts: Sequence[Part]) -> list[Any]:
    """The caches of results in the files of these parts."""
    return [
        one for one in (kept.value for kept in look(parts).values()) if isinstance(one, functools._lru_cache_wrapper)
    ]


def described(value: Any) -> str:
    """What a value is, in a word or two."""
    if isinstance(value, Tensor):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    return f"a value of type {type(value).__name__}"


def _own_classes(part: type[Part]) -> list[type]:
    """The classes that a part is made of, without what every part has."""
    return [one for one in part.__mro__ if not _is_below(one.__module__, _NOT_OF_A_METHOD)]


def _is_below(module: str, names: Sequence[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def _files(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        for owner in _own_classes(type(part)):
            yield inspect.getfile(owner)


class _Walk:
    """A walk over all that can be reached, which sees every object once."""

    def __init__(self, files: frozenset[str], roots: set[int]) -> None:
        self.files = files
        self.found: dict[tuple[str, str], Kept] = {}
        self._seen = set(roots)
        self._alive: list[Any] = []  # so that no number of an object is given out twice
        self._part: type[Part] = Part
        self._depth = 0

    def enter(self, part: type[Part]) -> None:
        """What follows is reached by this part."""
        self._part = part

    def model(self, value: BaseModel, place: str, pure: bool) -> None:
        stored = [vars(value), value.__pydantic_private__ or {}, value.__pydantic_extra__ or {}]
        for name, item in [pair for values in stored for pair in values.items()]:
            static = inspect.getattr_static(type(value), name, None)
            self.visit(item, f"{place}.{name}", pure or isinstance(static, functools.cached_property))

    def of_class(self, owner: type) -> None:
        for name, item in list(vars(owner).items()):
            if not _is_special(name) and name not in ("_abc_impl", "model_config"):
                self.visit(item, f"{owner.__name__}.{name}", False)

    def of_module(self, module: ModuleType) -> None:
        if id(module) in self._seen:
            return
        self._seen.add(id(module))
        for name, item in list(vars(module).items()):
            if not _is_special(name):
                self.visit(item, name, False)

    def visit(self, value: Any, place: str, pure: bool) -> None:
        """Keep the value, and go on to what it holds."""
        if isinstance(value, ModuleType) or len(self.found) > _MOST_VALUES or self._depth > _DEEPEST:
            return
        if isinstance(value, bool | int | float | complex | str | bytes | range | None):
            self._keep(place, value, (type(value), repr(value)), pure)
            return
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._alive.append(value)
        self._depth += 1
        self._visit_object(value, place, pure)
        self._depth -= 1

    def _visit_object(self, value: Any, place: str, pure: bool) -> None:
        if isinstance(value, type):
            if any(value.__module__ == one.__module__ for one in _own_classes(self._part)):
                self.of_class(value)
        elif isinstance(value, Tensor):
            self._keep(place, value, _tensor_content(value), pure)
        elif isinstance(value, np.ndarray):
            self._keep(place, value, (value.shape, str(value.dtype), sha256(value.tobytes()).digest()), pure)
        elif isinstance(value, functools._lru_cache_wrapper):
            self._cache(value, place)
        elif isinstance(value, property | functools.cached_property | staticmethod | classmethod | functools.partial):
            self._wrapper(value, place, pure)
        elif isinstance(value, FunctionType | MethodType | BuiltinFunctionType):
            self._function(value, place, pure)
        elif isinstance(value, GENERATORS):
            if not any(value is one for one in _GLOBAL_GENERATORS):
                self._keep(place, value, type(value), pure)
        elif isinstance(value, ContextVar):
            self.visit(value.get(None), f"{place}.get()", pure)
        elif isinstance(value, Mapping | Sequence | Set | deque | bytearray):
            self._container(value, place, pure)
        elif isinstance(value, BaseModel):
            self._keep(place, value, type(value), pure)
            self.visit(type(value), place, pure)
            self.model(value, place, pure)
        elif not _is_below(type(value).__module__, tuple(_OPAQUE)):
            self._instance(value, place, pure)

    def _container(self, value: Any, place: str, pure: bool) -> None:
        if isinstance(value, bytearray | memoryview):
            self._keep(place, value, bytes(value), pure)
            return
        size = len(value)
        self._keep(place, value, (type(value), size), pure)
        if size > _MOST_ITEMS:
            return
        if isinstance(value, Set):
            self._keep(f"{place}.items", value, sorted(map(repr, value)), pure)
        elif isinstance(value, Mapping):
            for key, item in list(value.items()):
                self.visit(item, f"{place}[{key!r}]", pure)
        else:
            for index, item in enumerate(value):
                self.visit(item, f"{place}[{index}]", pure)
        if hasattr(value, "__dict__"):
            self._attributes(value, place, pure)

    def _instance(self, value: Any, place: str, pure: bool) -> None:
        content: object = type(value)
        if isinstance(value, nn.Module):
            content = (content, value.training)
        elif type(value).__module__ == "_ctypes" or hasattr(type(value), "_type_"):
            content = (content, repr(getattr(value, "value", None)))
        self._keep(place, value, content, pure)
        self.visit(type(value), place, pure)
        self._attributes(value, place, pure)

    def _attributes(self, value: Any, place: str, pure: bool) -> None:
        slots = [name for one in type(value).__mro__ for name in _slots(one)]
        held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
        for name, item in (held | getattr(value, "__dict__", {})).items():
            self.visit(item, f"{place}.{name}", pure)

    def _wrapper(self, value: Any, place: str, pure: bool) -> None:
        for name in ("fget", "fset", "func", "__func__", "args", "keywords"):
            if getattr(value, name, None) is not None:
                self.visit(getattr(value, name), place, pure)

    def _function(self, value: Any, place: str, pure: bool) -> None:
        """What a function of these files holds; of others, what they wrap and the object that they belong to."""
        owner = getattr(value, "__self__", None)
        if owner is not None:
            self.visit(owner, f"{place}.__self__", pure)
        function = getattr(value, "__func__", value)
        if hasattr(function, "__wrapped__"):
            self.visit(function.__wrapped__, place, pure)
        if not isinstance(function, FunctionType) or function.__code__.co_filename not in self.files:
            return
        name = function.__qualname__
        cells: tuple[CellType, ...] = function.__closure__ or ()
        for variable, cell in zip(function.__code__.co_freevars, cells, strict=True):
            if variable != "__class__" and cell != CellType():
                self.visit(cell.cell_contents, f"{variable} (a variable around {name})", pure)
        for argument, item in _defaults(function):
            self.visit(item, f"{argument} (a default of {name})", pure)
        for attribute, item in vars(function).items():
            if attribute != "__wrapped__":
                self.visit(item, f"{name}.{attribute}", pure)

    def _cache(self, value: Any, place: str) -> None:
        function = inspect.unwrap(value)
        if getattr(function, "__code__", None) is None or function.__code__.co_filename not in self.files:
            return
        self._keep(place, value, None, True)
        self.visit(function, place, False)
        for item in gc.get_referents(value):
            results = list(item.values()) if type(item) is dict else [item]
            for result in results:
                if type(result).__name__ != "_lru_list_elem" and result is not function:
                    self.visit(result, f"{place}(…)#{id(result)}", True)

    def _keep(self, place: str, value: Any, content: object, pure: bool) -> None:
        key = (self._part.__module__, place)
        while key in self.found:
            key = (key[0], key[1] + "'")
        self.found[key] = Kept(self._part, place.split("#")[0], value, content, pure)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _slots(owner: type) -> Sequence[str]:
    slots = owner.__dict__.get("__slots__", ())
    return [slots] if isinstance(slots, str) else [name for name in slots if not _is_special(name)]


def _defaults(function: FunctionType) -> Iterator[tuple[str, Any]]:
    code, values = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    yield from zip(names[len(names) - len(values) :], values, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def _tensor_content(value: Tensor) -> object:
    known = (tuple(value.shape), str(value.dtype), value.requires_grad, str(value.device))
    if value.numel() > _LARGE or value.layout != torch.strided or value.device.type not in ("cpu", "cuda"):
        return (*known, id(value), value._version)
    flat = value.detach().cpu().resolve_conj().resolve_neg().contiguous().view(-1)
    return (*known, sha256(flat.view(torch.uint8).numpy().tobytes()).digest())
