"""Ground truth and detections of a split as columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tood.data.columns import look_up
from tood.data.counted_objects import counted_objects
from tood.data.split_table import SplitTable
from tood.io.errors import UserError

_FIELDS = ("image_id", "category_id", "bbox", "score")


@dataclass(frozen=True, eq=False)
class Objects:
    """The N ground-truth objects of a split, image by image, within an image in the file's order."""

    images: NDArray[np.int64]
    """(N,) positions in the split's ``image_ids``, ascending."""
    labels: NDArray[np.int64]
    """(N,) 0..C-1."""
    boxes: NDArray[np.float64]
    """(N,4) xywh px."""
    areas: NDArray[np.float64]
    """(N,) as annotated."""
    crowd: NDArray[np.bool_]
    """(N,)"""

    @classmethod
    def of(cls, table: SplitTable) -> "Objects":
        images, labels, known = table.locate_annotations()
        kept = np.flatnonzero(known)
        kept = kept[np.argsort(images[kept], kind="stable")]
        every = table.annotations
        return cls(images[kept], labels[kept], every.boxes[kept], every.areas[kept], every.crowd[kept])

    def of_image(self, position: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Boxes (n,4) xywh px and labels (n,) of an image, crowds left out."""
        part = slice(*np.searchsorted(self.images, [position, position + 1]))
        kept = ~self.crowd[part]
        return self.boxes[part][kept], self.labels[part][kept]


def count_objects(table: SplitTable) -> dict[str, int]:
    """Objects of each class in the split that AP counts."""
    return dict(zip(table.classes, counted_objects(table).tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Found:
    """D detections of a split in the order given."""

    images: NDArray[np.int64]
    """(D,) positions in the split's ``image_ids``."""
    labels: NDArray[np.int64]
    """(D,) 0..C-1."""
    boxes: NDArray[np.float64]
    """(D,4) xywh px."""
    scores: NDArray[np.float64]
    """(D,)"""

    def __len__(self) -> int:
        return len(self.scores)


def found_in(table: SplitTable, detections: Sequence[Mapping[str, Any]], where: str) -> Found:
    """Detections as columns.

    Raises UserError beginning with ``where`` for malformed entries and unknown images or categories.
    """
    if not detections:
        return Found(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))
    try:
        image_ids, category_ids, boxes, scores = (np.array([one[field] for one in detections]) for field in _FIELDS)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _refusal(table, detections, where) from error
    kinds = (image_ids.dtype.kind, category_ids.dtype.kind, boxes.dtype.kind, scores.dtype.kind)
    if any(kind not in allowed for kind, allowed in zip(kinds, ("i", "i", "if", "if"), strict=True)):
        raise _refusal(table, detections, where)
    if boxes.shape[1:] != (4,) or scores.ndim > 1 or not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
        raise _refusal(table, detections, where)
    images, known = look_up(table.image_ids, image_ids)
    labels, of_class = look_up(table.category_ids, category_ids)
    if not (known & of_class).all():
        raise _refusal(table, detections, where)
    return Found(images, labels, boxes.astype(np.float64, copy=False), scores.astype(np.float64, copy=False))


def _refusal(table: SplitTable, detections: Sequence[Any], where: str) -> UserError:
    """The problem of the first invalid entry, as a sentence."""
    images, categories = set(table.image_ids.tolist()), set(table.category_ids.tolist())
    for index, entry in enumerate(detections):
        problem = _problem(entry, table, images, categories)
        if problem:
            return UserError(f"{where}: entry {index} {problem}")
    raise AssertionError(f"{where}: every entry is right, but not all together")


def _problem(entry: Any, table: SplitTable, images: set[int], categories: set[int]) -> str:
    try:
        image_id, category_id, bbox, score = (entry[field] for field in _FIELDS)
        numbers = [*bbox, score]
    except (KeyError, TypeError, IndexError):
        numbers = []
    if len(numbers) != 5 or not all(isinstance(number, Real) for number in numbers):
        return "needs image_id, category_id, bbox [x, y, width, height] and score."
    for name, number, known in (("image_id", image_id, images), ("category_id", category_id, categories)):
        if not isinstance(number, Integral):
            return f"has the {name} {number!r}; it must be a whole number."
        if number not in known:
            return (
                f"has {name} {number}, which {table.source} does not contain; "
                "evaluate on the split that the detections were made on."
            )
    if not np.isfinite(score):
        return f"has the score {score}; scores must be finite numbers."
    if not np.isfinite(bbox).all():
        return f"has the bbox {list(bbox)}; boxes must be finite numbers."
    return ""
