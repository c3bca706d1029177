"""COCO layout: one json per split, or one pool that splits are drawn from."""

import math
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from tood.config.dataset import CocoDataset, CocoSplit
from tood.data.draw import draw_splits
from tood.data.findings import Findings
from tood.data.headers import Frame, settle_frame
from tood.data.records import BoxRecord, Category, ImageRecord, RawDataset, RawSplit
from tood.errors import UserError
from tood.files import read_json

_Report = Callable[[str], None]


def read_coco(config: CocoDataset, root: Path, findings: Findings) -> RawDataset:
    """Read a COCO data set below ``root``; what is wrong goes to ``findings``.

    Ids, areas and flags (iscrowd, ignore) are kept. Boxes without area or wholly outside their image are
    dropped, others stay as they are. Labels follow ascending category id; all splits must agree on ids and
    names.
    """
    if config.splits is not None:
        read = [_read_split(name, split, root, config, findings) for name, split in config.splits.items()]
        files = [root / split.annotations for split in config.splits.values()]
        categories = _common_categories(list(zip(files, (categories for categories, _ in read), strict=True)), findings)
        return RawDataset(categories, tuple(split for _, split in read))
    assert config.images is not None
    assert config.annotations is not None
    assert config.draw is not None
    pool = CocoSplit(images=config.images, annotations=config.annotations)
    categories, whole = _read_split("pool", pool, root, config, findings)
    names = {image.file_name: image for image in whole.images}
    drawn = draw_splits(names, config.draw, findings, root / config.annotations)
    splits = []
    for name, keys in drawn.items():
        ids = {names[key].id for key in keys}
        images = [image for image in whole.images if image.id in ids]
        splits.append(RawSplit(name, whole.folder, images, [box for box in whole.boxes if box.image_id in ids]))
    return RawDataset(categories, tuple(splits))


def _read_split(
    name: str, split: CocoSplit, root: Path, config: CocoDataset, findings: Findings
) -> tuple[tuple[Category, ...], RawSplit]:
    folder, path = root / split.images, root / split.annotations
    empty = RawSplit(name, folder, [], [])
    if not folder.is_dir():
        findings.error(folder, f"no such folder; set the 'images' of data set '{config.name}'")
        return (), empty
    try:
        content = read_json(path)
    except UserError as error:
        findings.error(path, str(error).removeprefix(f"{path}: ").rstrip("."))
        return (), empty
    tables = _tables(content, path, findings)
    if tables is None:
        return (), empty
    categories = _categories(tables["categories"], path, findings)
    images, frames = _images(tables["images"], folder, path, findings)
    if not tables["images"]:
        findings.error(path, f"split '{name}' has no images")
    boxes = _boxes(tables["annotations"], path, images, frames, {item.id for item in categories}, findings)
    return categories, RawSplit(name, folder, [image for image in images.values() if image.id in frames], boxes)


def _tables(content: Any, path: Path, findings: Findings) -> dict[str, list[dict[str, Any]]] | None:
    tables: dict[str, list[dict[str, Any]]] = {}
    for field in ("images", "annotations", "categories"):
        rows = content.get(field) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            findings.error(path, f"field '{field}' is missing or not a list of entries; a COCO file has one")
            return None
        tables[field] = rows
    return tables


def _id(row: dict[str, Any], field: str) -> int | None:
    value = row.get(field)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _categories(rows: list[dict[str, Any]], path: Path, findings: Findings) -> tuple[Category, ...]:
    categories: dict[int, Category] = {}
    names: dict[str, int] = {}
    for index, row in enumerate(rows):
        number, name = _id(row, "id"), row.get("name")
        if number is None or not isinstance(name, str) or not name.strip():
            findings.error(path, f"categories[{index}] needs a whole number as 'id' and a text as 'name'")
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
    rows: list[dict[str, Any]], folder: Path, path: Path, findings: Findings
) -> tuple[dict[int, ImageRecord], dict[int, Frame]]:
    """Images by id, and the frames of those whose file can be read."""
    images: dict[int, ImageRecord] = {}
    frames: dict[int, Frame] = {}
    files: dict[str, int] = {}
    for index, row in enumerate(rows):
        number, name = _id(row, "id"), row.get("file_name")
        if number is None or not isinstance(name, str) or not name:
            findings.error(path, f"images[{index}] needs a whole number as 'id' and a text as 'file_name'")
            continue
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            findings.error(path, f"image {number} has the file_name '{name}', which is outside {folder}")
            continue
        if number in images:
            findings.error(path, f"image id {number} is given twice ('{images[number].file_name}' and '{name}')")
            continue
        if name in files:
            findings.error(path, f"file_name '{name}' is given twice (image ids {files[name]} and {number})")
            continue
        files[name] = number
        frame = settle_frame(folder / name, _size(row), findings, str(folder / name))
        size = (frame.width, frame.height) if frame else (0, 0)
        images[number] = ImageRecord(number, name, *size)
        if frame is not None:
            frames[number] = frame
    return images, frames


def _size(row: dict[str, Any]) -> tuple[int, int] | None:
    width, height = _id(row, "width"), _id(row, "height")
    return (width, height) if width and height else None


def _boxes(
    rows: list[dict[str, Any]],
    path: Path,
    images: dict[int, ImageRecord],
    frames: dict[int, Frame],
    categories: set[int],
    findings: Findings,
) -> list[BoxRecord]:
    boxes: list[BoxRecord] = []
    seen: set[int] = set()
    for index, row in enumerate(rows):
        number, image, category = _id(row, "id"), _id(row, "image_id"), _id(row, "category_id")
        if number is None:
            findings.error(path, f"annotations[{index}] needs a whole number as 'id'")
            continue
        if number in seen:
            findings.error(path, f"annotation id {number} is given twice")
            continue
        seen.add(number)
        if image is None or image not in images:
            findings.error(path, f"annotation {number} is of image {row.get('image_id')}, which 'images' does not list")
            continue
        if category is None or category not in categories:
            given = row.get("category_id")
            findings.error(path, f"annotation {number} has category {given}, which 'categories' does not list")
            continue
        bbox = _bbox(row.get("bbox"))
        if bbox is None:
            findings.error(path, f"annotation {number} needs four numbers [x, y, width, height] as 'bbox'")
            continue
        if image in frames:
            record = _placed(number, image, category, bbox, row, frames[image])
            problem = _problem(record.bbox, frames[image])
            if problem is not None:
                findings.box(images[image].file_name, problem)
            if problem is None or not problem.endswith("dropped"):
                boxes.append(record)
    return boxes


def _bbox(value: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in value):
        return None
    return value[0], value[1], value[2], value[3]


def _placed(
    number: int,
    image: int,
    category: int,
    bbox: tuple[float, float, float, float],
    row: dict[str, Any],
    frame: Frame,
) -> BoxRecord:
    if frame.drawn_unturned:
        x, y, width, height = bbox
        x1, y1, x2, y2 = frame.place((x, y, x + width, y + height))
        bbox = (x1, y1, x2 - x1, y2 - y1)
    area = row.get("area")
    if not isinstance(area, int | float) or not math.isfinite(area):
        area = bbox[2] * bbox[3]
    crowd, ignore = bool(row.get("iscrowd", 0)), bool(row.get("ignore", 0))
    return BoxRecord(number, image, category, bbox, area, crowd, ignore)


def _problem(bbox: tuple[float, float, float, float], frame: Frame) -> str | None:
    x, y, width, height = bbox
    if width <= 0 or height <= 0:
        return "without area dropped"
    if x >= frame.width or y >= frame.height or x + width <= 0 or y + height <= 0:
        return "outside the image dropped"
    if min(x, y) < -1 or x + width > frame.width + 1 or y + height > frame.height + 1:
        return "reaching over the edge of the image (clipped in training, kept in evaluation)"
    return None


def _common_categories(files: list[tuple[Path, tuple[Category, ...]]], findings: Findings) -> tuple[Category, ...]:
    """The categories of all splits; an error names the first difference of each file."""
    filled = [(path, categories) for path, categories in files if categories]
    if not filled:
        return ()
    first, reference = filled[0]
    expected = {category.id: category.name for category in reference}
    for path, categories in filled[1:]:
        names = {category.id: category.name for category in categories}
        differing = sorted(
            number for number in expected.keys() | names.keys() if expected.get(number) != names.get(number)
        )
        if differing:
            number = differing[0]
            here, there = names.get(number), expected.get(number)
            findings.error(
                path,
                f"category {number} is {_named(here)} here and {_named(there)} in {first}; "
                "all splits must have the same category ids and names",
            )
    return reference


def _named(name: str | None) -> str:
    return "missing" if name is None else f"'{name}'"
