"""Recognition of COCO: a json for each split or one for all, from any tool, with its pictures anywhere below."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from tood.data.findings import plural
from tood.data.formats.coco_values import whole
from tood.data.formats.folder_files import composed
from tood.data.recognise.place import Place, look_at, spread
from tood.data.recognise.recognised import Choices, Field, NotHereError, Recognised
from tood.data.recognise.split_choice import decide_splits, split_of, split_of_path
from tood.io.errors import UserError, listed
from tood.io.read import read_json

_TABLES = ("images", "annotations", "categories")
_KEY = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_END = 1 << 20  # bytes at either end of a file in which one of its tables begins
_MOST = 5


@dataclass(frozen=True)
class _Category:
    id: int
    name: str
    group: str
    """Its 'supercategory'."""


@dataclass(frozen=True)
class _Json:
    """A COCO file: where it is below the root, and what recognition needs of it."""

    path: str
    split: str | None
    file_names: tuple[str, ...]
    categories: tuple[_Category, ...]
    used: Counter[int]
    """Annotations of each category id."""


@dataclass(frozen=True)
class _Pictures:
    """Where the pictures of a file are: its folder below the root, and whether names count without their folders."""

    folder: str
    without_folders: bool


def recognise_coco(place: Place, choices: Choices) -> Recognised | None:
    """The COCO data set at ``place``, None if there is none. Raises UserError where an option has to decide."""
    found = _read(place, choices)
    if not found:
        return None
    chosen, said = _one_each(found, place)
    pictures_at = place if choices.images is None else look_at(choices.images)
    decided = decide_splits(chosen, place, choices)
    used = list(decided.given.values())
    where = {one.path: _pictures(one, place, pictures_at, choices) for one in used}
    root, prefix, pictures_prefix = _roots(place, pictures_at)
    splits = {
        name: {"images": _join(pictures_prefix, where[one.path].folder), "annotations": _join(prefix, one.path)}
        for name, one in decided.given.items()
    }
    said += decided.said
    why = f"read from {listed([one.path for one in used])}"
    fields = decided.fields(splits, why, pool=splits["train"])
    if any(one.without_folders for one in where.values()):
        fields.append(
            Field("without_folders", True, "the names in the json have folders that are not here; without them all fit")
        )
    fields += _left_out(used, choices, said)
    return Recognised("coco", _what(used), root, tuple(fields), tuple(said))


def _read(place: Place, choices: Choices) -> list[_Json]:
    """The COCO files that are below, or the one that was given."""
    if place.given is not None:
        paths = [place.given.name]
    else:
        paths = [path for path in place.files(".json") if _may_be_coco(place.root / path)]
    if choices.annotations is not None:
        pattern = choices.annotations
        paths = [path for path in paths if fnmatch(path, pattern) or fnmatch(PurePosixPath(path).name, pattern)]
    return [one for path in paths if (one := _parse(place, path)) is not None]


def _may_be_coco(path: Path) -> bool:
    """Whether a table of COCO begins near the beginning or end of a file, so that others are not parsed."""
    try:
        with path.open("rb") as file:
            if _KEY.search(file.read(_END)):
                return True
            size = path.stat().st_size
            file.seek(max(0, size - _END))
            return size > _END and _KEY.search(file.read()) is not None
    except OSError:
        return False


def _parse(place: Place, path: str) -> _Json | None:
    """A file that lists images and boxes; None for others, such as captions. Raises UserError for broken JSON."""
    content = read_json(place.root / path, without=("segmentation", "keypoints"))
    found = [content.get(name) if isinstance(content, dict) else None for name in _TABLES]
    tables = [table for table in found if isinstance(table, list) and all(isinstance(row, dict) for row in table)]
    if len(tables) < len(_TABLES):
        return None
    images, annotations, categories = tables
    if not images or (annotations and not any("bbox" in row for row in annotations)):
        return None
    names = tuple(row["file_name"].replace("\\", "/") for row in images if isinstance(row.get("file_name"), str))
    used = Counter(number for row in annotations if (number := whole(row.get("category_id"))) is not None)
    return _Json(path, split_of_path(path), names, _categories(categories), used)


def _categories(rows: Sequence[Mapping[str, Any]]) -> tuple[_Category, ...]:
    """Categories with an id and a name; what is wrong with others is reported where the data set is read."""
    return tuple(
        _Category(number, name, str(row.get("supercategory") or "none"))
        for row in rows
        if (number := whole(row.get("id"))) is not None and isinstance(name := row.get("name"), str)
    )


def _one_each(found: Sequence[_Json], place: Place) -> tuple[dict[str | None, _Json], list[str]]:
    """The file of each split, and what is said of those that are not used."""
    said: list[str] = []
    by_split: dict[str | None, list[_Json]] = {}
    for one in found:
        by_split.setdefault(one.split, []).append(one)
    if "train" in by_split and None in by_split:
        said.append(f"not used, since no split is named in it: {listed([one.path for one in by_split.pop(None)])}")
    chosen: dict[str | None, _Json] = {}
    for split, files in by_split.items():
        instances = [one for one in files if PurePosixPath(one.path).name.startswith("instances")]
        if len(files) > 1 and len(instances) != 1:
            of = f"for the split '{split}'" if split else "and none tells its split by its name"
            names = listed([one.path for one in files], _MOST)
            raise UserError(
                f"{place.shown}: has {len(files)} COCO files {of} ({names}); say which count by --annotations PATTERN, "
                "or give one as the place."
            )
        chosen[split] = instances[0] if instances and len(files) > 1 else files[0]
        others = [one.path for one in files if one is not chosen[split]]
        if others:
            said.append(f"not used beside {chosen[split].path}: {listed(others, _MOST)}")
    empty = [name for name, one in chosen.items() if name in ("val", "test") and not one.used]
    if len(chosen) > len(empty):
        said += [f"the split '{name}' is left out: {chosen.pop(name).path} has no annotations" for name in empty]
    return chosen, said


def _pictures(one: _Json, place: Place, pictures_at: Place, choices: Choices) -> _Pictures:
    """The folder from which the names in a file lead to pictures, by a sample of them.

    Raises UserError where there is none, or several that fit equally well.
    """
    index: dict[str, list[str]] = {}
    for folder, names in pictures_at.images.items():
        for name in names:
            index.setdefault(composed(name), []).append(folder)
    whole_names, last_parts = Counter[str](), Counter[str]()
    sample = spread(one.file_names)
    for name in sample:
        path = PurePosixPath(composed(name))
        above = path.parts[:-1]
        for folder in index.get(path.name, ()):
            last_parts[folder] += 1
            parts = () if folder == "." else PurePosixPath(folder).parts
            if not above or parts[-len(above) :] == above:
                whole_names[str(PurePosixPath(*parts[: len(parts) - len(above)]))] += 1
    counts, without = (whole_names, False) if whole_names else (last_parts, True)
    if not counts:
        raise NotHereError(
            f"{place.root / one.path}: lists {plural(len(one.file_names), 'picture')} (such as "
            f"'{one.file_names[0] if one.file_names else ''}'), and none of them is below {pictures_at.root}; export "
            "with the pictures (CVAT: 'Save images'; Label Studio: 'COCO with images'), or give their folder by "
            "--images FOLDER."
        )
    if without and len({PurePosixPath(name).name for name in one.file_names}) < len(set(one.file_names)):
        raise UserError(
            f"{place.root / one.path}: the folders in its 'file_name's (such as '{one.file_names[0]}') are not below "
            f"{pictures_at.root}, and without them several names are the same; give the folder by --images FOLDER."
        )
    most = max(counts.values())
    best = [folder for folder, count in counts.items() if count == most]
    for rule in _PREFERRED if len(best) > 1 and choices.images is None else ():
        better = [folder for folder in best if rule(folder, one)]
        best = better if len(better) == 1 else best
    if choices.images is not None and "." in best:
        best = ["."]
    if len(best) > 1:
        raise UserError(
            f"{place.root / one.path}: its pictures are in several folders ({listed(sorted(best), _MOST)}); say which "
            "count by --images FOLDER."
        )
    return _Pictures(best[0], without)


def _beside(folder: str, one: _Json) -> bool:
    return folder == str(PurePosixPath(one.path).parent)


def _of_its_split(folder: str, one: _Json) -> bool:
    own = re.search(r"[a-z]+[0-9]*$", PurePosixPath(one.path).stem.lower())
    return own is not None and split_of(own[0]) is not None and PurePosixPath(folder).name.lower() == own[0]


def _called_as_its_split(folder: str, one: _Json) -> bool:
    return one.split is not None and split_of_path(folder) == one.split


def _images_beside(folder: str, one: _Json) -> bool:
    path = PurePosixPath(one.path)
    return folder in (str(path.parent / "images"), str(path.parent.parent / "images"))


_PREFERRED = (_images_beside, _called_as_its_split, _of_its_split, _beside)
"""Which of several folders with the same names is meant; a later rule wins where it chooses one alone."""


def _roots(place: Place, pictures_at: Place) -> tuple[Path, PurePosixPath, PurePosixPath]:
    """The folder that holds both, and the way from it to the json's root and to that of the pictures."""
    if pictures_at.root.is_relative_to(place.root):
        root = place.root
    else:
        shared = [
            one
            for one in (place.root, *place.root.parents)
            if one == pictures_at.root or one in pictures_at.root.parents
        ]
        root = shared[0]
    prefixes = [PurePosixPath(one.root.relative_to(root).as_posix()) for one in (place, pictures_at)]
    return root, prefixes[0], prefixes[1]


def _join(prefix: PurePosixPath, path: str) -> str:
    return str(prefix / path)


def _left_out(used: Sequence[_Json], choices: Choices, said: list[str]) -> list[Field]:
    """The field 'leave_out': what the user names, and a root category that only groups the others."""
    classes = {category.id: category for one in used for category in one.categories}
    objects = Counter[int]()
    for one in used:
        objects += one.used
    names = Counter(category.name for category in classes.values())
    unused = [category for category in classes.values() if not objects[category.id]]
    parents = {category.group for category in classes.values()}
    groups = [one for one in unused if one.name in parents and one.group == "none" and len(classes) > 1]
    left: list[int | str] = []
    why: list[str] = []
    for group in groups:
        left.append(group.name if names[group.name] == 1 else group.id)
        why.append(
            f"'{group.name}' (id {group.id}) is no class but the group of the others, as Roboflow adds it: no object "
            "has it"
        )
    for asked in choices.leave_out:
        if asked not in names:
            raise UserError(f"--leave-out {asked}: there is no class of that name; there are {listed(list(names))}.")
        left += [asked] if asked not in left else []
        why.append(f"'{asked}' is left out as asked (--leave-out)")
    others = [one.name for one in unused if one not in groups and one.name not in left]
    if others and objects:
        said.append(
            f"without any object, and kept as classes: {listed(others, _MOST)}; --leave-out CLASS leaves one out"
        )
    return [Field("leave_out", left, "; ".join(why))] if left else []


def _what(used: Sequence[_Json]) -> str:
    names = {PurePosixPath(one.path).name for one in used}
    tool = ""
    if names == {"_annotations.coco.json"}:
        tool = ", as Roboflow writes it"
    elif names == {"instances_default.json"}:
        tool = ", as CVAT writes it"
    elif names == {"result.json"}:
        tool = ", as Label Studio writes it"
    boxes = sum(sum(one.used.values()) for one in used)
    pictures = sum(len(one.file_names) for one in used)
    return f"COCO{tool}: {plural(len(used), 'file')} with {plural(pictures, 'picture')} and {plural(boxes, 'object')}"
