"""Building blocks: YAML files below ``params/`` that studies combine by name."""

import os
import re
from pathlib import Path
from typing import Any

from tood.config.messages import nearest, validate
from tood.io.errors import Problems, UserError
from tood.io.read import read_yaml

_BLOCK_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")


def block_file(params: Path, folder: str, name: str, named_in: str) -> Path:
    """``params/<folder>/<name>.yaml``; UserError names the nearest file there is."""
    path = params / folder / f"{name}.yaml"
    if not _BLOCK_NAME.fullmatch(name) or not os.path.exists(path):
        valid = [
            found.relative_to(params / folder).with_suffix("").as_posix() for found in (params / folder).rglob("*.yaml")
        ]
        raise UserError(f"{named_in}: there is no {path}{nearest(name, valid)}")
    return path


def load_block(params: Path, folder: str, name: str, model: Any, named_in: str) -> Any:
    """A building block's file as ``model``, which has the file's name; UserError names file and field."""
    return _read(params, folder, name, model, named_in)[1]


def read_block(params: Path, folder: str, name: str, model: Any, named_in: str) -> dict[str, Any]:
    """Like :func:`load_block`, as the mapping in the file, to which overrides are still to be applied."""
    return _read(params, folder, name, model, named_in)[0]


def _read(params: Path, folder: str, name: str, model: Any, named_in: str) -> tuple[dict[str, Any], Any]:
    """A file's mapping and its validated form; it is validated by itself, so that errors name the file."""
    path = block_file(params, folder, name, named_in)
    value = read_yaml(path)
    problems = Problems()
    if isinstance(value, dict):
        if "name" in value:
            problems.add(f"{path}: field 'name' is not to be given; the file's name is the name.")
        value = {**value, "name": name}
    with problems.gather():
        found = validate(model, value, str(path))
    problems.raise_all()
    return value, found
