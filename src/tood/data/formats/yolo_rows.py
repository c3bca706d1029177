"""Rows of YOLO's label files: what they hold (boxes, outlines, keypoints, further numbers) and the boxes they give.

Rows of 7, 9, 11 … numbers can be outlines or boxes with keypoints; which of them is told by ``data.yaml``, by the
data set's ``rows``, or by the rows of the whole set where only one reading makes sense.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from tood.config.datasets import RowKind

Corners = tuple[float, float, float, float]
_BOX = 5  # numbers of a row with a class index and a box
_FEWEST_OF_OUTLINE = 7
_OF_TASK: dict[str, RowKind] = {"detect": "box", "segment": "polygon", "obb": "polygon", "pose": "pose"}
_MEANINGS = {
    "box": "a box 'class cx cy w h'",
    "polygon": "an outline 'class x1 y1 x2 y2 x3 y3 …'",
    "pose": "a box with keypoints 'class cx cy w h x1 y1 …'",
    "box_and_number": "a box with further numbers, such as a confidence or a track",
}
_ROOM = 0.1  # share of a box's side that its keypoints may lie outside
_KEYPOINTS_INSIDE = 0.8  # share of keypoints inside their boxes from which rows may be boxes with keypoints
_LARGEST = 2.0  # of a coordinate as a fraction


@dataclass(frozen=True)
class YoloRow:
    """One row of a label file: class index and the numbers after it."""

    label: int
    numbers: tuple[float, ...]

    @property
    def count(self) -> int:
        """How many numbers the row has, with the class index."""
        return 1 + len(self.numbers)


@dataclass(frozen=True)
class RowMeaning:
    """How the rows of a data set are read."""

    kind: RowKind
    count: int | None = None
    """Numbers that each row must have; None for any that fit the kind."""

    def corners(self, row: YoloRow) -> Corners:
        """(x1, y1, x2, y2) of the row's box as fractions of the image; ValueError says why it is no such row."""
        fits = {
            "box": row.count == _BOX,
            "polygon": row.count == _BOX or (row.count >= _FEWEST_OF_OUTLINE and row.count % 2 == 1),
            "pose": row.count > _BOX,
            "box_and_number": row.count >= _BOX,
        }[self.kind]
        if not fits or (self.count is not None and row.count != self.count):
            wanted = f" of {self.count} numbers" if self.count is not None else ""
            raise ValueError(f"has {row.count} numbers; here a row is {_MEANINGS[self.kind]}{wanted}")
        if self.kind == "polygon" and row.count > _BOX:
            xs, ys = row.numbers[0::2], row.numbers[1::2]
            _refuse_pixels(row.numbers)
            return min(xs), min(ys), max(xs), max(ys)
        cx, cy, width, height = row.numbers[:4]
        _refuse_pixels(row.numbers[:4])
        return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2

    def is_outline(self, row: YoloRow) -> bool:
        """Whether the row's box is the one around an outline."""
        return self.kind == "polygon" and row.count > _BOX


def parse_row(line: str) -> YoloRow:
    """Parse a row of numbers that begins with a class index. Raises ValueError saying what is wrong."""
    words = line.split()
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        hint = "; separate the numbers by spaces" if "," in line or ";" in line else ""
        if re.search(r"\d,\d", line) and len(words) >= _BOX:
            hint = "; write decimal points in place of commas"
        raise ValueError(f"has {line!r}, which is not a row of numbers{hint}") from error
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"has {line!r}, which is not a row of finite numbers")
    if len(numbers) < _BOX:
        raise ValueError(
            f"has {len(numbers)} numbers; a row is {_MEANINGS['box']}, {_MEANINGS['polygon']} or {_MEANINGS['pose']}"
        )
    label = int(numbers[0])
    if label != numbers[0] or label < 0:
        raise ValueError(f"has the class index {words[0]}, which is not a whole number from 0")
    return YoloRow(label, tuple(numbers[1:]))


def _refuse_pixels(values: Sequence[float]) -> None:
    largest = max(values, key=abs)
    if abs(largest) > _LARGEST:
        raise ValueError(f"has the value {largest:g}; coordinates must be fractions of the image, not pixels")


def meaning_by_description(content: Any) -> RowMeaning | None:
    """What ``data.yaml`` says of rows: by ``kpt_shape`` (keypoints, numbers of each) or ``task``; None without.

    Raises ValueError, which names the field, for a value that cannot be.
    """
    if not isinstance(content, dict):
        return None
    shape = content.get("kpt_shape")
    if shape is not None:
        whole = isinstance(shape, list) and len(shape) == 2 and all(type(number) is int for number in shape)
        if not whole or shape[0] < 1 or shape[1] not in (2, 3):
            raise ValueError(f"field 'kpt_shape' is {shape!r}, but must be [number of keypoints, 2 or 3]")
        return RowMeaning("pose", _BOX + shape[0] * shape[1])
    task = content.get("task")
    if task is None:
        return None
    if task not in _OF_TASK:
        raise ValueError(f"field 'task' is {task!r}, of which no labels are read here; valid are {', '.join(_OF_TASK)}")
    return RowMeaning(_OF_TASK[task])


def meaning_of_rows(rows: Sequence[YoloRow]) -> RowMeaning:
    """The one meaning that all rows of a data set together allow.

    Raises ValueError, which says what the rows may mean, where there are several.
    """
    counts = sorted({row.count for row in rows} - {_BOX})
    if not counts:
        return RowMeaning("box")
    table = np.array([row.numbers for row in rows if row.count == counts[0]])
    if len(counts) == 1 and _has_visibilities(table):
        if counts[0] % 2 == 0 or _may_be_pose(table):  # rows of an even number are no outlines
            return RowMeaning("pose", counts[0])
        raise ValueError(_ambiguous(counts[0], "", ("polygon", "pose", "box_and_number")))
    even = [count for count in counts if count % 2 == 0]
    if even:
        raise ValueError(_ambiguous(even[0], _guess_of_sixth(rows), ("box_and_number", "pose")))
    if len(counts) > 1:
        return RowMeaning("polygon")  # boxes with keypoints have equally many numbers in all rows
    if bool((np.abs(table) <= _LARGEST).all()) and not _may_be_pose(table):
        return RowMeaning("polygon")
    raise ValueError(_ambiguous(counts[0], "", ("polygon", "pose", "box_and_number")))


def _ambiguous(count: int, guess: str, kinds: tuple[RowKind, ...]) -> str:
    meanings = " or ".join(_MEANINGS[kind] for kind in kinds)
    return (
        f"holds rows of {count} numbers, which can be {meanings}{guess}; say which by 'rows: "
        f"{' | '.join(kinds)}' in the data set's YAML"
    )


def _guess_of_sixth(rows: Sequence[YoloRow]) -> str:
    """What the sixth number looks like over the whole set."""
    last = np.array([row.numbers[4] for row in rows if row.count == _BOX + 1])
    if not len(last):
        return ""
    if (last == np.round(last)).all():
        return " (here it looks like the number of a track)"
    if ((last >= 0) & (last <= 1)).all():
        return " (here it looks like the confidence of a prediction)"
    return " (here it may be an angle, which is not read: give the corners of turned boxes)"


def _has_visibilities(table: NDArray[np.float64]) -> bool:
    """Whether every third number after the box is 0, 1 or 2 in all rows (N, numbers), as only keypoints have it."""
    points = table[:, 4:]
    return points.shape[1] % 3 == 0 and bool(np.isin(points[:, 2::3], (0, 1, 2)).all())


def _may_be_pose(table: NDArray[np.float64]) -> bool:
    """Whether rows (N, numbers) make sense as boxes inside the image with points, of 2 or 3 numbers, inside them."""
    centres, sizes = table[:, None, 0:2], table[:, None, 2:4]
    inside_image = ((centres - sizes / 2 > -0.01) & (centres + sizes / 2 < 1.01)).all((1, 2))
    if inside_image.mean() < _KEYPOINTS_INSIDE:
        return False
    for numbers in (2, 3):
        points = table[:, 4:]
        if points.shape[1] % numbers:
            continue
        places = points.reshape(len(table), -1, numbers)[:, :, :2]
        marked = np.any(places != 0, axis=2)  # (0, 0) stands for a keypoint that was not marked
        near = np.all(np.abs(places - centres) <= sizes * (0.5 + _ROOM), axis=2)
        if not marked.any() or float(np.mean(near[marked])) >= _KEYPOINTS_INSIDE:
            return True
    return False


assert set(_MEANINGS) == set(get_args(RowKind))
