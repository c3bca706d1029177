"""Reader of the COCO format: one json per split, or one for a pool that splits are drawn from."""

import math
from pathlib import Path, PurePosixPath
from typing import Any

from tood.config.datasets import CocoDataset, CocoSplit, ImagesDataset
from tood.data.findings import Findings
from tood.data.formats.headers import Frame, settle_frame
from tood.data.formats.list_files import report_overlap
from tood.data.formats.records import SMALLEST_BOX, TOO_THIN, BoxRecord, Category, ImageRecord, RawDataset, RawSplit
from tood.data.formats.splits import draw_splits
from tood.io.errors import UserError
from tood.io.read import read_json

_LARGEST_ID = 2**63 - 1  # of the arrays that hold ids
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
        categories = _common_categories(list(zip(files, (categories for categories, _ in read), strict=True)), findings)
        splits = [split for _, split in read]
        report_overlap({split.name: [str(split.path(image)) for image in split.images] for split in splits}, findings)
        return RawDataset(categories, tuple(splits))
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


def read_images(config: ImagesDataset, root: Path, findings: Findings) -> RawDataset:
    """Read COCO files that list images without annotations below ``root``, in the same way."""
    read = [
        _read_split(name, CocoSplit(images=split.images, annotations=split.listing), root, config, findings)
        for name, split in config.splits.items()
    ]
    files = [root / split.listing for split in config.splits.values()]
    categories = _common_categories(list(zip(files, (categories for categories, _ in read), strict=True)), findings)
    return RawDataset(categories, tuple(split for _, split in read))


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
        findings.error(path, str(error).removeprefix(f"{path}: ").rstrip("."))
        return (), empty
    labelled = isinstance(config, CocoDataset)
    tables = _tables(content, path, findings, ("images", "annotations", "categories") if labelled else _UNLABELLED)
    if tables is None:
        return (), empty
    categories = _categories(tables["categories"], path, findings)
    images, frames = _images(tables["images"], folder, path, findings)
    if not tables["images"]:
        findings.error(path, f"split '{name}' has no images")
    boxes = []
    if labelled and images and categories:  # otherwise their lack is the problem, reported once
        boxes = _boxes(tables["annotations"], path, images, frames, {item.id for item in categories}, findings)
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


def _id(row: dict[str, Any], field: str) -> int | None:
    """A whole number; some tools write it as 1.0."""
    number = _number(row.get(field))
    return int(number) if number is not None and number % 1 == 0 and abs(number) <= _LARGEST_ID else None


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # of a whole number with hundreds of digits
        return None


def _odd_id(place: str, row: dict[str, Any]) -> str:
    wanted = "a number below 2^63" if isinstance(row.get("id"), int) else "a whole number"
    return f"{place} needs {wanted} as 'id'" + (f"; it has {row['id']!r}" if "id" in row else "")


def _categories(rows: list[dict[str, Any]], path: Path, findings: Findings) -> tuple[Category, ...]:
    categories: dict[int, Category] = {}
    names: dict[str, int] = {}
    for index, row in enumerate(rows):
        number, name = _id(row, "id"), row.get("name")
        if number is None:
            findings.error(path, _odd_id(f"categories[{index}]", row))
        elif not isinstance(name, str) or not name.strip():
            findings.error(path, f"categories[{index}] (id {number}) needs a text as 'name'")
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
        if number is None:
            findings.error(path, _odd_id(f"images[{index}]", row))
            continue
        if not isinstance(name, str) or not name:
            findings.error(path, f"images[{index}] (id {number}) needs a text as 'file_name'")
            continue
        if "\\" in name and not (folder / name).exists():
            name = name.replace("\\", "/")  # written on Windows
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
            findings.error(path, _odd_id(f"annotations[{index}]", row))
            continue
        if number in seen:
            findings.error(path, f"annotation id {number} is given twice")
            continue
        seen.add(number)
        if image is None or image not in images:
            given = repr(row.get("image_id"))
            findings.error(path, f"annotation {number} is of image {given}, which 'images' does not list")
            continue
        if category is None or category not in categories:
            given = repr(row.get("category_id"))
            findings.error(path, f"annotation {number} has category {given}, which 'categories' does not list")
            continue
        bbox = _bbox(row.get("bbox"))
        if bbox is None:
            findings.error(path, f"annotation {number} needs four numbers [x, y, width, height] as 'bbox'")
            continue
        odd = next((flag for flag in ("iscrowd", "ignore") if row.get(flag) not in (None, 0, 1)), None)
        if odd is not None:
            findings.error(path, f"annotation {number} has {row[odd]!r} as '{odd}', which must be 0 or 1")
            continue
        if image in frames:
            record = _placed(number, image, category, bbox, row, frames[image])
            problem = _problem(record.bbox, frames[image])
            if problem is not None:
                findings.box(images[image].file_name, problem)
            if problem is None or not problem.endswith("dropped"):
                boxes.append(record)
                if _number(row.get("area", 1)) is None or row.get("area", 1) <= 0:
                    findings.box(images[image].file_name, "with no positive 'area'; width times height is used")
    return boxes


def _bbox(value: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    if any(_number(number) is None for number in value):
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
    area = _number(row.get("area"))
    if area is None or area <= 0:
        area = bbox[2] * bbox[3]
    crowd, ignore = bool(row.get("iscrowd", 0)), bool(row.get("ignore", 0))
    return BoxRecord(number, image, category, bbox, area, crowd, ignore)


def _problem(bbox: tuple[float, float, float, float], frame: Frame) -> str | None:
    x, y, width, height = bbox
    if width <= 0 or height <= 0:
        return "without area dropped"
    if x >= frame.width or y >= frame.height or x + width <= 0 or y + height <= 0:
        return "outside the image dropped"
    if min(width, height) < SMALLEST_BOX:
        return TOO_THIN
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
