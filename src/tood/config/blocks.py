"""Building blocks: YAML files below ``params/`` that studies combine by name."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tood.config.messages import nearest, validate
from tood.io.errors import Problems, UserError, listed
from tood.io.names import nearest_name, twin
from tood.io.read import read_yaml

_BLOCK_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_KINDS = {
    "studies": "study",
    "methods": "method",
    "backbones": "backbone",
    "schedules": "schedule",
    "datasets": "data set",
    "scales": "scale",
    "published": "table of published numbers",
}
"""What the files in each folder of ``params`` are."""
_MOST_NAMES = 30


def block_names(params: Path, folder: str) -> list[str]:
    """The names by which the files of ``params/<folder>`` can be chosen."""
    found = _files(params / folder)
    return sorted(name for name, file in found.items() if file.suffix == ".yaml" and _BLOCK_NAME.fullmatch(name))


def block_file(params: Path, folder: str, name: str, named_in: str) -> Path:
    """``params/<folder>/<name>.yaml``; UserError names the nearest file there is."""
    path = params / folder / f"{name}.yaml"
    if not _BLOCK_NAME.fullmatch(name) or not os.path.exists(path):
        raise UserError(f"{named_in}: there is no {path}{why_missing(params, [folder], name)}")
    return path


def refuse_name(folder: str, name: str) -> None:
    """Raise UserError if no file of ``params/<folder>`` can be chosen by that name."""
    if not _BLOCK_NAME.fullmatch(name):
        kind = _KINDS[folder]
        raise UserError(
            f"'{name}' cannot be the name of a {kind}: names have letters a to z, digits, '_', '-' and '.' only, and "
            "begin with none of the last."
        )


def why_missing(params: Path, folders: Sequence[str], name: str) -> str:
    """Why the name chooses no file of these folders, or what it should be; ends a sentence that there is none."""
    files = {found: file for folder in folders for found, file in _files(params / folder).items()}
    valid = [found for folder in folders for found in block_names(params, folder)]
    if any(os.path.isdir(params / folder / f"{name}.yaml") for folder in folders):
        return f", only a folder that is called '{name}.yaml'; put a file in its place."
    if name in files:
        return _why_not_read(name, files[name])
    plain = _without_place(name, params, folders)
    if plain != name and plain in valid:
        return f"; give the name alone, without folder and suffix: did you mean '{plain}'?"
    below = [one for one in valid if one.startswith(f"{name}/")]
    if below:
        return f", but '{name}' is a folder; choose one of {listed(below, _MOST_NAMES)}."
    like = nearest_name(name, files)
    if like is not None and like.name not in valid:
        return _why_not_read(like.name, files[like.name])
    kinds = [kind for kind in _KINDS if kind not in folders and name in block_names(params, kind)]
    if kinds and twin(name, valid) is None:
        others = f"; valid are {listed(sorted(valid), _MOST_NAMES)}" if valid else ""
        return f", but '{name}' is the name of a {_KINDS[kinds[0]]}{others}."
    return nearest(name, valid)


def _files(folder: Path) -> dict[str, Path]:
    """Files below a folder that are YAML by their suffix, by name without it; those that are read take precedence."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in (".yaml", ".yml") and not path.is_dir()]
    found.sort(key=lambda path: (path.suffix == ".yaml", path.as_posix()))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}


def _without_place(name: str, params: Path, folders: Sequence[str]) -> str:
    """The name without the folder and the suffix that were written with it."""
    plain = name.removeprefix("./")
    for folder in folders:
        plain = plain.removeprefix(f"{params}/").removeprefix(f"{params.name}/").removeprefix(f"{folder}/")
    return re.sub(r"\.ya?ml$", "", plain, flags=re.IGNORECASE)


def _why_not_read(name: str, file: Path) -> str:
    if file.is_symlink() and not file.exists():
        return f", only a link to {os.readlink(file)}, which is not there; mend the link."
    if file.suffix != ".yaml":
        return f", but {file}; rename it to {file.with_suffix('.yaml').name}."
    return f", and {file} cannot be chosen: names have letters a to z, digits, '_', '-' and '.' only; rename it."


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
