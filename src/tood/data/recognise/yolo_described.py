"""Files that describe a YOLO data set: Ultralytics' ``data.yaml``, Darknet's ``obj.data`` and ``obj.names``."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tood.data.formats.folder_files import tails
from tood.data.recognise.place import Place, join
from tood.data.recognise.split_choice import split_of
from tood.io.errors import UserError, listed
from tood.io.read import read_yaml
from tood.io.text import lines_of, read_text

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_KEYS = {"train", "val", "test", "path", "nc", "kpt_shape"}  # that stand beside 'names'
_NAMES = ("classes.txt", "obj.names", "predefined_classes.txt")
_MOST = 5


@dataclass(frozen=True)
class Described:
    """What such a file says; paths are below the root of the place."""

    source: str
    names_source: str
    classes: Sequence[str]
    splits: dict[str | None, list[str]]
    content: Any = None
    """Of a YAML file."""
    said: Sequence[str] = ()
    is_certain: bool = True
    """Whether the file is YOLO's for sure; a list of class names may be anyone's."""


def described_by_yaml(place: Place) -> Described | None:
    """What the one YAML file says that has class names and splits; None without. UserError where there are several."""
    paths = place.files(".yaml", ".yml")
    if place.given is not None:
        paths = [place.given.name] if place.given.suffix.lower() in (".yaml", ".yml") else []
    found = []
    for path in paths:
        try:
            content = read_yaml(place.root / path, numbers_as_written=("names",))
        except UserError:
            if place.given is not None or PurePosixPath(path).name == "data.yaml":
                raise
            continue
        keys = content.keys() if isinstance(content, dict) and content.get("names") else set()
        if keys & _KEYS or (keys and PurePosixPath(path).name == "data.yaml"):
            found.append((path, content))
    if not found:
        return None
    if len(found) > 1:
        names = listed([path for path, _ in found], _MOST)
        raise UserError(f"{place.shown}: has several files that describe a YOLO data set ({names}); give one of them.")
    ((path, content),) = found
    said: list[str] = []
    splits: dict[str | None, list[str]] = {}
    for key, name in _SPLITS.items():
        values = content.get(key)
        places = [_resolve(str(one), path, content, key, place, said) for one in _several(values)]
        kept = [one for one in places if one is not None]
        if kept:
            splits[name] = kept
    return Described(path, path, _classes(content["names"]), splits, content, said)


def _several(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [] if values in (None, "") else [values]


def _classes(names: Any) -> list[str]:
    """Names in the order of their numbers; what is odd with them is reported where the data set is read."""
    if isinstance(names, dict):
        by_number = {str(number): name for number, name in names.items()}
        return [str(by_number[str(number)]) for number in range(len(by_number)) if str(number) in by_number]
    return [str(name) for name in names] if isinstance(names, list) else []


def _resolve(value: str, source: str, content: dict[str, Any], key: str, place: Place, said: list[str]) -> str | None:
    """The folder or list that a split names, below the root; None where there is none (which is said).

    Such paths are those of another machine or folder as often as not, so the longest end of one that is here counts.
    """
    written = value.replace("\\", "/").rstrip("/")
    base = str(content.get("path") or "").replace("\\", "/")
    beside = str(PurePosixPath(source).parent)
    for way in (f"{base}/{written}", written) if base else (written,):
        for folder in dict.fromkeys((beside, ".")):
            for tail in tails(_plain(way)):
                path = join(folder, tail)
                if _is_used(path, place):
                    if path != posixpath.normpath(posixpath.join(beside, way)):
                        said.append(f"'{key}: {value}' of {source} leads elsewhere; {path} is there, and used")
                    return path
    kind = "has no pictures" if (place.root / beside / written).is_dir() else "is not there"
    said.append(f"the split '{_SPLITS[key]}' is left out: '{key}: {value}' of {source} {kind}")
    return None


def _plain(path: str) -> PurePosixPath:
    """A path without its drive, root and steps up or in place."""
    parts = [
        part for part in PurePosixPath(path).parts if part not in ("/", "//", ".", "..") and not part.endswith(":")
    ]
    return PurePosixPath(*parts)


def _is_used(path: str, place: Place) -> bool:
    """Whether there is a list file, or a folder with pictures."""
    if (place.root / path).is_file():
        return True
    return any(path in (".", folder) or folder.startswith(f"{path}/") for folder in place.images)


def described_by_darknet(place: Place) -> Described | None:
    """What Darknet's files say, as CVAT exports them, or a list of class names alone; None without.

    UserError where there are several lists that differ.
    """
    said: list[str] = []
    splits: dict[str | None, list[str]] = {}
    data = place.files(".data")
    names_files = [path for path in place.files(".names", ".txt") if _holds_names(path)]
    if place.given is not None:
        own = place.given.name
        data = [own] if own.endswith(".data") else data
        names_files = [own] if own in names_files else names_files
    source = None
    if len(data) == 1:
        source = data[0]
        for line in lines_of(read_text(place.root / source)):
            key, _, value = (part.strip() for part in line.partition("="))
            if key in _SPLITS and value and (found := _resolve(value, source, {}, key, place, said)) is not None:
                splits[_SPLITS[key]] = [found]
    if not names_files:
        return None
    contents = {tuple(_lines(place, path)) for path in names_files}
    if len(contents) > 1:
        raise UserError(
            f"{place.shown}: has several lists of class names that differ ({listed(names_files, _MOST)}); give the "
            "names by --classes, as: --classes cat,dog."
        )
    if not splits:
        splits = _lists_beside(place, names_files[0])
    return Described(source or names_files[0], names_files[0], contents.pop(), splits, None, said, source is not None)


def _holds_names(path: str) -> bool:
    name = PurePosixPath(path).name.lower()
    return name in _NAMES or name.endswith(".names")


def _lists_beside(place: Place, names_file: str) -> dict[str | None, list[str]]:
    """Lists of pictures called as splits beside the list of class names."""
    folder = str(PurePosixPath(names_file).parent)
    found: dict[str | None, list[str]] = {}
    for name in place.names([".txt"]).get(folder, ()):
        split = split_of(PurePosixPath(name).stem, alone=True)
        if split is not None and _lists_pictures(place, join(folder, name)):
            found[split] = [join(folder, name)]
    return found


def _lists_pictures(place: Place, path: str) -> bool:
    lines = _lines(place, path)
    known = {name for names in place.images.values() for name in names}
    return bool(lines) and PurePosixPath(lines[0].replace("\\", "/")).name in known


def _lines(place: Place, path: str) -> list[str]:
    return [line.strip() for line in lines_of(read_text(place.root / path)) if line.strip()]
