"""Boxes of COCO annotations: entries of 'annotations' checked one by one, and what the numbers mean over the set.

A box is [x, y, width, height] px from the top left corner. Other tools write corners, centres or fractions of the image
into the same field; over a whole file they are recognised, because read as meant by COCO they leave their images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tood.config.values import typed
from tood.data.findings import Findings
from tood.data.formats.coco_values import number, odd_id, whole
from tood.data.formats.headers import Frame
from tood.data.formats.records import SMALLEST_BOX, TOO_THIN, BoxRecord, ImageRecord, beyond_edge, reach_over

Box4 = tuple[float, float, float, float]
_LEAVING = 0.1  # share of boxes that leave their images from which another reading is looked for
_STAYING = 0.98  # share of boxes that another reading must keep inside
_SLACK = 1.01  # times the image's side, and a pixel
_FRACTION = 1.0 + 1e-6
_LARGEST = 10.0**6  # px


@dataclass(frozen=True)
class _Entry:
    """An annotation whose ids, box and flags have the right types."""

    id: int
    image: int
    category: int
    bbox: Box4
    area: float | None
    crowd: bool
    ignore: bool


@dataclass(frozen=True)
class CocoFile:
    """What the boxes of a file are of: its images by id, the frames of those that can be read, category ids."""

    path: Path
    folder: Path
    images: Mapping[int, ImageRecord]
    frames: Mapping[int, Frame]
    categories: frozenset[int]
    left_out: frozenset[int] = frozenset()
    """Category ids whose boxes are not used."""


def read_boxes(rows: Sequence[Mapping[str, Any]], file: CocoFile, findings: Findings) -> list[BoxRecord]:
    """The boxes of a file's 'annotations' in images that can be read; what is wrong goes to ``findings``."""
    entries = _entries(rows, file, findings)
    reading = _other_reading(entries, file)
    if reading is not None:
        findings.error(file.path, f"field 'annotations[].bbox' {reading}; COCO's boxes are [x, y, width, height] in px")
        return []
    boxes = []
    for entry in entries:
        frame, image = file.frames[entry.image], file.images[entry.image]
        record = _placed(entry, frame)
        problem = _note_problem(record.bbox, frame, image.file_name, file.folder / image.file_name, findings)
        if problem is None or not problem.endswith("dropped"):
            boxes.append(record)
            if entry.area is not None and entry.area <= 0:
                findings.box(image.file_name, "with no positive 'area'; width times height is used")
    return boxes


def _entries(rows: Sequence[Mapping[str, Any]], file: CocoFile, findings: Findings) -> list[_Entry]:
    entries: list[_Entry] = []
    seen: set[int] = set()
    for index, row in enumerate(rows):
        place = f"annotations[{index}]"
        found = whole(row.get("id"))
        if found is None:
            findings.error(file.path, odd_id(place, row))
            continue
        if found in seen:
            findings.error(file.path, f"annotation id {found} is given twice (again in {place})")
            continue
        seen.add(found)
        named = f"{place} (id {found})"
        image = _known(row, "image_id", "images", file.images, named, file, findings)
        listed = file.categories | file.left_out
        category = _known(row, "category_id", "categories", listed, named, file, findings)
        if image is None or category is None:
            continue
        if category in file.left_out:
            findings.box(file.images[image].file_name, "of a class in 'leave_out' dropped")
            continue
        bbox = _bbox(row.get("bbox"))
        if bbox is None:
            has = typed(row.get("bbox"))
            findings.error(file.path, f"{named} needs four numbers [x, y, width, height] px as 'bbox'; it has {has}")
            continue
        odd = next((flag for flag in ("iscrowd", "ignore") if row.get(flag) not in (None, 0, 1)), None)
        if odd is not None:
            findings.error(file.path, f"{named} has {typed(row[odd])} as '{odd}', which must be 0 or 1")
            continue
        if image in file.frames:
            area = number(row["area"]) if "area" in row else None
            area = 0.0 if "area" in row and area is None else area
            crowd, ignore = bool(row.get("iscrowd")), bool(row.get("ignore"))
            entries.append(_Entry(found, image, category, bbox, area, crowd, ignore))
    return entries


def _known(
    row: Mapping[str, Any],
    field: str,
    table: str,
    ids: Mapping[int, Any] | frozenset[int],
    named: str,
    file: CocoFile,
    findings: Findings,
) -> int | None:
    """The id in a field, if the other table lists it; else None and an error."""
    given = row.get(field)
    found = whole(given)
    if found is not None and found in ids:
        return found
    text = given.strip() if isinstance(given, str) else ""
    if text.isdecimal() and int(text) in ids:
        problem = f"has the text '{given}' as '{field}', while the ids in '{table}' are numbers; leave out the quotes"
    elif given is None:
        problem = f"has no '{field}'"
    else:
        problem = f"has {typed(given)} as '{field}', which '{table}' does not list"
    findings.error(file.path, f"{named} {problem}")
    return None


def _bbox(value: Any) -> Box4 | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    if any((found := number(one)) is None or abs(found) > _LARGEST for one in value):
        return None
    return value[0], value[1], value[2], value[3]


def _other_reading(entries: Sequence[_Entry], file: CocoFile) -> str | None:
    """What the boxes are, where they cannot be [x, y, width, height] px, as the end of a sentence."""
    if not entries:
        return None
    boxes = np.array([entry.bbox for entry in entries], np.float64)
    sizes = np.array([_annotated(file.frames[entry.image]) for entry in entries], np.float64)
    a, b = boxes[:, :2], boxes[:, 2:]
    if (np.abs(boxes).max(1) <= _FRACTION).all() and (b > 0).any() and (sizes > 8).all():
        return "holds fractions of the images: multiply them by the images' width and height"
    areas = np.array([np.nan if entry.area is None else entry.area for entry in entries])
    are_sizes = _match(b.prod(1), areas)
    if not are_sizes and _match((b - a).prod(1), areas):
        return "holds corners [x1, y1, x2, y2]: the 'area' of the boxes is (x2 - x1) * (y2 - y1)"
    if _inside(a, a + b, sizes).mean() > 1 - _LEAVING:
        return None
    if not are_sizes and _inside(a, b, sizes).mean() >= _STAYING:
        return "holds corners [x1, y1, x2, y2], it seems: read as COCO means them, boxes leave their images"
    if _inside(a - b / 2, a + b / 2, sizes).mean() >= _STAYING:
        return "holds centres [cx, cy, width, height], it seems: read as COCO means them, boxes leave their images"
    return None


def _annotated(frame: Frame) -> tuple[int, int]:
    """Size (w, h) px of the picture that the boxes were drawn on."""
    return (frame.height, frame.width) if frame.drawn_unturned else (frame.width, frame.height)


def _inside(low: NDArray[np.float64], high: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) whether boxes from ``low`` to ``high`` (N,2) have an area in images of ``sizes`` (N,2)."""
    slack = 1 + (_SLACK - 1) * sizes
    fits: NDArray[np.bool_] = np.all((high > low) & (low > -slack) & (high < sizes + slack), axis=1)
    return fits


def _match(computed: NDArray[np.float64], areas: NDArray[np.float64]) -> bool:
    """Whether the areas that are given are those of the boxes in nearly all cases."""
    given = np.isfinite(areas) & (areas > 0)
    if not given.any():
        return False
    close = np.abs(computed[given] - areas[given]) <= 0.01 * areas[given] + 1
    return bool(close.mean() >= _STAYING)


def _placed(entry: _Entry, frame: Frame) -> BoxRecord:
    bbox = entry.bbox
    if frame.drawn_unturned:
        x, y, width, height = bbox
        x1, y1, x2, y2 = frame.place((x, y, x + width, y + height))
        bbox = (x1, y1, x2 - x1, y2 - y1)
    area = entry.area if entry.area is not None and entry.area > 0 else bbox[2] * bbox[3]
    return BoxRecord(entry.id, entry.image, entry.category, bbox, area, entry.crowd, entry.ignore)


def _note_problem(bbox: Box4, frame: Frame, name: str, path: Path, findings: Findings) -> str | None:
    x, y, width, height = bbox
    problem, kind = None, None
    if width <= 0 or height <= 0:
        problem, kind = "without area dropped", "no_area"
    elif x >= frame.width or y >= frame.height or x + width <= 0 or y + height <= 0:
        problem, kind = "outside the image dropped", "outside_image"
    elif min(width, height) < SMALLEST_BOX:
        problem, kind = TOO_THIN, "below_pixel"
    else:
        over = reach_over(x, y, x + width, y + height, frame.width, frame.height)
        if max(over) > 1:
            problem = "reaching over the edge of the image (clipped in training, kept in evaluation)"
            kind = beyond_edge(over, frame.width, frame.height)
    if problem is not None:
        findings.box(name, problem)
    if kind is not None:
        findings.share(kind, path)  # type: ignore[arg-type]
    return problem
