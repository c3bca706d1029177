"""MMDetection's configuration in a checkpoint, parsed from its Python text as data and never executed.

MMDetection writes its whole configuration into a checkpoint: assignments of literals and ``dict(...)`` calls.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_TEXT_KEYS = ("cfg", "config")
_SIZE_KEYS = ("scale", "img_scale")


@dataclass(frozen=True)
class ForeignConfig:
    """The readable part of a toolbox's configuration; empty if a file has none."""

    values: Mapping[str, Any] = field(default_factory=dict)

    def get(self, *path: str) -> Any:
        """The value at ``path``, None where there is none."""
        value: Any = self.values
        for step in path:
            value = value.get(step) if isinstance(value, Mapping) else None
        return value

    def model(self, *path: str) -> Any:
        """The value at ``path`` of the model; training and test settings used to stand beside it."""
        inside = self.get("model", *path)
        return self.get(*path) if inside is None and path[0] in ("train_cfg", "test_cfg") else inside

    def test_steps(self) -> Iterator[Mapping[str, Any]]:
        """The steps of the test pipeline, nested ones included."""
        found = self.get("test_pipeline") or self.get("test_dataloader", "dataset", "pipeline")
        yield from _steps(found or self.get("data", "test", "pipeline"))

    def test_size(self) -> tuple[int, int] | None:
        """(short, long) side of test images in pixels, where there is one such size."""
        for step in self.test_steps():
            for key in _SIZE_KEYS:
                value = step.get(key)
                if isinstance(value, list) and len(value) == 1:
                    value = value[0]
                if isinstance(value, tuple | list) and len(value) == 2 and all(type(side) is int for side in value):
                    return min(value), max(value)
        return None


def class_name(value: Any) -> str | None:
    """A class's name without its module; None for what is no text."""
    return value.rpartition(".")[2] if isinstance(value, str) else None


def _steps(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _steps(inner)


def read_config(meta: Mapping[Any, Any]) -> ForeignConfig:
    """The configuration in a checkpoint's ``meta``; what is no plain literal is left out."""
    text = next((meta[key] for key in _TEXT_KEYS if isinstance(meta.get(key), str)), "")
    try:
        body = ast.parse(text).body
        values = {
            target.id: _value(node.value)
            for node in body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ForeignConfig()
    return ForeignConfig(values)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item) for item in items)
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {key.value: _value(value) for key, value in pairs if isinstance(key, ast.Constant)}
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return {keyword.arg: _value(keyword.value) for keyword in keywords if keyword.arg is not None}
        case _:
            return None
