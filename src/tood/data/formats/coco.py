"""Reader of the COCO format: one json per split, or one for a pool that splits are drawn from."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from tood.config.datasets import CocoDataset, CocoSplit, ImagesDataset
from tood.config.values import typed
from tood.data.findings import Findings
from tood.data.formats.class_names import refuse_unknown
from tood.data.formats.coco_boxes import CocoFile, read_boxes
from tood.data.formats.coco_values import odd_id, side, whole
from tood.data.formats.folder_files import FolderNames, tails
from tood.data.formats.headers import Frame, settle_frame
from tood.data.formats.records import Category, ImageRecord, RawDataset, RawSplit
from tood.data.formats.splits import draw_splits, part_of
from tood.io.consulted import note_absent
from tood.io.errors import UserError
from tood.io.names import twin
from tood.io.read import read_json
from tood.io.text import without_path

_UNLABELLED = ("images", "categories")
_OUTLINES = ("segmentation", "keypoints")  # most of a file's size, not used for detection


def read_coco(config: CocoDataset, root: Path, findings: Findings) -> RawDataset:
    """Read a COCO data set below ``root``; what is wrong goes to ``findings``.

    Ids, areas and flags (iscrowd, ignore) are kept; an area that is missing or not positive becomes width
    times height. Boxes without area or wholly outside their image are dropped, others stay as they are. Labels
    follow ascending category id; all splits must agree on ids and names.
    """
    if config.splits is not None:
        read = [_read_split(name, split, root, config, findings) for name, split in config.splits.items()]
        files = [root / split.annotations for split in config.splits.values()]
        found = list(zip(files, (categories for categories, _ in read), strict=True))
        categories = _common_categories(found, config.rename, findings)
        splits = [split for _, split in read]
        return RawDataset(categories, tuple(splits))
    assert config.images is not None
    assert config.annotations is not None
    assert config.draw is not None
    pool = CocoSplit(images=config.images, annotations=config.annotations)
    listed, whole = _read_split("pool", pool, root, config, findings)
    categories = _common_categories([(root / config.annotations, listed)], config.rename, findings)
    pictures = {image.file_name: whole.path(image) for image in whole.images}
    left_out = findings.unreadable_pictures  # drawn, so that all others stay where they are
    pictures |= {path.relative_to(whole.folder).as_posix(): path for path in left_out}
    drawn = draw_splits(pictures, config.draw, findings, root / config.annotations)
    return RawDataset(categories, tuple(part_of(whole, name, set(keys)) for name, keys in drawn.items()))


def read_images(config: ImagesDataset, root: Path, findings: Findings) -> RawDataset:
    """Read COCO files that list images without annotations below ``root``, in the same way."""
    read = [
        _read_split(name, CocoSplit(images=split.images, annotations=split.listing), root, config, findings)
        for name, split in config.splits.items()
    ]
    files = [root / split.listing for split in config.splits.values()]
    found = list(zip(files, (categories for categories, _ in read), strict=True))
    return RawDataset(_common_categories(found, config.rename, findings), tuple(split for _, split in read))


def _read_split(
    name: str, split: CocoSplit, root: Path, config: CocoDataset | ImagesDataset, findings: Findings
) -> tuple[tuple[Category, ...], RawSplit]:
    """The categories and content of one split; without boxes where the data set is a list of images."""
    folder, path = root / split.images, root / split.annotations
    empty = RawSplit(name, folder, [], [])
    if not folder.is_dir():
        findings.error(folder, f"no such folder; set the 'images' of data set '{config.name}'")
        return (), empty
    try:
        content = read_json(path, without=_OUTLINES)
    except UserError as error:
        findings.error(path, without_path(error, path))
        return (), empty
    labelled = isinstance(config, CocoDataset)
    tables = _tables(content, path, findings, ("images", "annotations", "categories") if labelled else _UNLABELLED)
    if tables is None:
        return (), empty
    if isinstance(config, CocoDataset):
        known = [row.get(field) for row in tables["categories"] for field in ("id", "name")]
        _refuse_unknown_left_out(config, known, path, findings)
    rows, left_out = _left_out(tables["categories"], config.leave_out if isinstance(config, CocoDataset) else ())
    categories = _categories(rows, path, findings)
    without_folders = isinstance(config, CocoDataset) and config.without_folders
    images, frames = _images(tables["images"], folder, path, root, findings, without_folders=without_folders)
    if not tables["images"]:
        findings.error(path, f"split '{name}' has no images")
    boxes = []
    if labelled and images and categories:  # otherwise their lack is the problem, reported once
        ids = frozenset(item.id for item in categories)
        boxes = read_boxes(tables["annotations"], CocoFile(path, folder, images, frames, ids, left_out), findings)
    return categories, RawSplit(name, folder, [image for image in images.values() if image.id in frames], boxes)


def _tables(
    content: Any, path: Path, findings: Findings, fields: tuple[str, ...]
) -> dict[str, list[dict[str, Any]]] | None:
    tables: dict[str, list[dict[str, Any]]] = {}
    for field in fields:
        rows = content.get(field) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            findings.error(path, f"field '{field}' is missing or not a list of entries; a COCO file has one")
            return None
        tables[field] = rows
    return tables


def _left_out(
    rows: list[dict[str, Any]], leave_out: Sequence[int | str]
) -> tuple[list[dict[str, Any]], frozenset[int]]:
    """The categories without those to leave out, and the ids of the latter."""
    kept = [row for row in rows if row.get("id") not in leave_out and row.get("name") not in leave_out]
    ids = frozenset(number for row in rows if row not in kept and (number := whole(row.get("id"))) is not None)
    return kept, ids


def _refuse_unknown_left_out(config: CocoDataset, known: Collection[object], path: Path, findings: Findings) -> None:
    for one in config.leave_out:
        if one not in known:
            findings.error(path, f"field 'leave_out' of data set '{config.name}' has {one!r}, no name or id of a class")


def _categories(rows: list[dict[str, Any]], path: Path, findings: Findings) -> tuple[Category, ...]:
    categories: dict[int, Category] = {}
    names: dict[str, int] = {}
    for index, row in enumerate(rows):
        place = f"categories[{index}]"
        number, name = whole(row.get("id")), row.get("name")
        if number is None:
            findings.error(path, odd_id(place, row))
        elif not isinstance(name, str) or not name.strip():
            findings.error(path, f"{place} (id {number}) needs a text as 'name'; it has {typed(name)}")
        elif number in categories:
            findings.error(path, f"category id {number} is given twice ('{categories[number].name}' and '{name}')")
        elif name in names:
            findings.error(path, f"category name '{name}' is given twice (ids {names[name]} and {number})")
        else:
            categories[number], names[name] = Category(number, name), number
    if not rows:
        findings.error(path, "field 'categories' is empty; it must list the classes")
    return tuple(categories[number] for number in sorted(categories))


def _images(
    rows: list[dict[str, Any]], folder: Path, path: Path, root: Path, findings: Findings, *, without_folders: bool
) -> tuple[dict[int, ImageRecord], dict[int, Frame]]:
    """Images by id, and the frames of those whose file can be read."""
    images: dict[int, ImageRecord] = {}
    frames: dict[int, Frame] = {}
    names = FolderNames()
    listed = {name for row in rows if isinstance(name := row.get("file_name"), str)}
    for index, row in enumerate(rows):
        place = f"images[{index}]"
        number, name = whole(row.get("id")), row.get("file_name")
        if number is None:
            findings.error(path, odd_id(place, row))
            continue
        named = f"{place} (id {number})"
        if not isinstance(name, str) or not name:
            findings.error(path, f"{named} needs a text as 'file_name'; it has {typed(name)}")
            continue
        if "\\" in name and not (folder / name).exists():
            name = name.replace("\\", "/")  # written on Windows
        if without_folders:
            name = PurePosixPath(name).name
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            name = os.path.relpath(folder / name, folder)  # as tools write that keep absolute paths
        if ".." in PurePosixPath(name).parts:
            findings.error(path, f"{named} has the file_name '{row['file_name']}', which is outside {folder}")
            images.setdefault(number, ImageRecord(number, name, 0, 0))
            continue
        if number in images:
            findings.error(path, f"image id {number} is given twice ('{images[number].file_name}' and '{name}')")
            continue
        file = names.meant(folder / name)
        if not os.path.lexists(file):
            where = _where_it_is(name, folder, root, names, listed)
            note_absent(folder / name)
            findings.missing(path, f"{named} has the file_name '{name}', but {where}")
            images[number] = ImageRecord(number, name, 0, 0)
            continue
        name = str(PurePosixPath(name).with_name(file.name))
        frame = settle_frame(file, _size(row, named, path, findings), findings, str(file))
        size = (frame.width, frame.height) if frame else (0, 0)
        images[number] = ImageRecord(number, name, *size, source=f"{path}, {place}")
        if frame is not None:
            frames[number] = frame
    return images, frames


def _where_it_is(name: str, folder: Path, root: Path, names: FolderNames, listed: Collection[str]) -> str:
    """That an image file is missing, and where one is that is probably meant, but for those that are ``listed``."""
    missing = f"there is no {folder / name}"
    for tail in tails(PurePosixPath(name))[1:]:
        if (folder / tail).exists():
            above = name.removesuffix(tail)
            return f"{missing}; {folder / tail} is there: leave '{above}' out of the names" + (
                f", or set 'images' to a folder above {folder}" if (folder.parent / name).exists() else ""
            )
    for place in (folder.parent, root):
        if (place / name).exists():
            return f"{missing}; {place / name} is there: set 'images' to {place}"
    if (folder / (decoded := unquote(name))).exists() and decoded != name:
        return f"{missing}; '{decoded}' is there: write the names without % signs"
    near = names.nearest(folder / name)
    if near is not None and str(PurePosixPath(name).with_name(near)) in listed:
        near = None
    return f"{missing}; did you mean '{near}'?" if near else f"{missing}; restore it or leave it out"


def _size(row: dict[str, Any], named: str, path: Path, findings: Findings) -> tuple[int, int] | None:
    width, height = side(row.get("width")), side(row.get("height"))
    for field, found in (("width", width), ("height", height)):
        if found is None:
            findings.error(path, f"{named} has {typed(row[field])} as '{field}', which must be a number of pixels")
    return (width, height) if width and height else None


def _common_categories(
    files: list[tuple[Path, tuple[Category, ...]]], rename: Mapping[str, str], findings: Findings
) -> tuple[Category, ...]:
    """The categories of all splits, renamed; an error names the first difference of each file."""
    filled = [(path, categories) for path, categories in files if categories]
    if not filled:
        return ()
    first = filled[0][0]
    refuse_unknown(rename, {one.name for _, categories in filled for one in categories}, first, findings)
    meant = [{one.id: rename.get(one.name, one.name) for one in categories} for _, categories in filled]
    expected = meant[0]
    for (path, _), names in zip(filled[1:], meant[1:], strict=True):
        differing = sorted(
            number for number in expected.keys() | names.keys() if expected.get(number) != names.get(number)
        )
        if differing:
            number = differing[0]
            here, there = names.get(number), expected.get(number)
            findings.error(
                path,
                f"category {number} is {_named(here)} here and {_named(there)} in {first}; "
                f"all splits must have the same category ids and names{_remedy(here, there)}",
            )
    return tuple(Category(number, name) for number, name in expected.items())


def _named(name: str | None) -> str:
    return "missing" if name is None else f"'{name}'"


def _remedy(here: str | None, there: str | None) -> str:
    """What to do where two names look alike."""
    like = twin(here, [there]) if here is not None and there is not None else None
    return f" (of the first: {like.reason}); make them one with 'rename: {{{here!a}: {there!a}}}'" if like else ""
