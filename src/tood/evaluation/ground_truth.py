"""The objects of a split, and detections of it, as columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tood.data.columns import Annotations, Texts, look_up
from tood.io.errors import UserError
from tood.io.read import read_json

_FIELDS = ("image_id", "category_id", "bbox", "score")
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """I images in ascending id, C classes in ascending category id and the N objects of both, image by image.

    Load it once when the same split is evaluated many times.
    """

    source: Path
    image_ids: NDArray[np.int64]
    """(I,)"""
    file_names: Texts
    """I names relative to the folder of images."""
    category_ids: tuple[int, ...]
    classes: tuple[str, ...]
    images: NDArray[np.int64]
    """(N,) positions in ``image_ids``, ascending; within an image in the order of the file."""
    labels: NDArray[np.int64]
    """(N,) 0..C-1."""
    boxes: NDArray[np.float64]
    """(N,4) xywh px."""
    areas: NDArray[np.float64]
    """(N,) as annotated."""
    crowd: NDArray[np.bool_]
    """(N,)"""

    def object_counts(self) -> dict[str, int]:
        """Objects of each class in the split, crowds left out."""
        counts = np.bincount(self.labels[~self.crowd], minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def with_objects(self) -> list[int]:
        """Ids of the images that have any, crowds left out."""
        numbers: list[int] = self.image_ids[np.unique(self.images[~self.crowd])].tolist()
        return numbers

    def file_name(self, image_id: int) -> str:
        return self.file_names[np.searchsorted(self.image_ids, image_id)]

    def objects(self, image_id: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Boxes (n,4) xywh px and labels (n,) of an image, crowds left out."""
        position = np.searchsorted(self.image_ids, image_id)
        part = slice(*np.searchsorted(self.images, [position, position + 1]))
        kept = ~self.crowd[part]
        return self.boxes[part][kept], self.labels[part][kept]


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


def load_ground_truth(annotations: Path) -> GroundTruth:
    """Read a COCO annotations file. Raises UserError if it is missing, unreadable or has no categories."""
    content = read_json(annotations)
    if not isinstance(content, dict) or not content.get("categories") or "images" not in content:
        raise UserError(f"{annotations}: needs 'images' and 'categories' to be evaluated against; prepare it again.")
    try:
        categories = dict(sorted((int(one["id"]), str(one["name"])) for one in content["categories"]))
        names = dict(sorted((int(one["id"]), str(one.get("file_name", ""))) for one in content["images"]))
        every = Annotations.of(content.get("annotations", []))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{annotations}: is not a complete COCO file ({type(error).__name__}: {error}); prepare it again."
        ) from error
    image_ids = np.array(list(names), np.int64)
    images, known = look_up(image_ids, every.image_ids)
    labels, of_class = look_up(np.array(list(categories), np.int64), every.category_ids)
    kept = np.flatnonzero(known & of_class)
    kept = kept[np.argsort(images[kept], kind="stable")]
    return GroundTruth(
        source=Path(annotations),
        image_ids=image_ids,
        file_names=Texts.of(names.values()),
        category_ids=tuple(categories),
        classes=tuple(categories.values()),
        images=images[kept],
        labels=labels[kept],
        boxes=every.boxes[kept],
        areas=every.areas[kept],
        crowd=every.crowd[kept],
    )


def found_in(truth: GroundTruth, detections: Sequence[Mapping[str, Any]], where: str) -> Found:
    """Detections as columns.

    Raises UserError beginning with ``where`` for malformed entries and unknown images or categories.
    """
    if not detections:
        return Found(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))
    try:
        image_ids, category_ids, boxes, scores = (np.array([one[field] for one in detections]) for field in _FIELDS)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _refusal(truth, detections, where) from error
    kinds = (image_ids.dtype.kind, category_ids.dtype.kind, boxes.dtype.kind, scores.dtype.kind)
    if any(kind not in allowed for kind, allowed in zip(kinds, ("i", "i", "if", "if"), strict=True)):
        raise _refusal(truth, detections, where)
    if boxes.shape[1:] != (4,) or scores.ndim > 1 or not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
        raise _refusal(truth, detections, where)
    images, known = look_up(truth.image_ids, image_ids)
    labels, of_class = look_up(np.array(truth.category_ids, np.int64), category_ids)
    if not (known & of_class).all():
        raise _refusal(truth, detections, where)
    return Found(images, labels, boxes.astype(np.float64, copy=False), scores.astype(np.float64, copy=False))


def _refusal(truth: GroundTruth, detections: Sequence[Any], where: str) -> UserError:
    """What is wrong with the first entry that has something wrong with it."""
    images, categories = set(truth.image_ids.tolist()), set(truth.category_ids)
    for index, entry in enumerate(detections):
        problem = _problem(entry, truth, images, categories)
        if problem:
            return UserError(f"{where}: entry {index} {problem}")
    raise AssertionError(f"{where}: every entry is right, but not all together")


def _problem(entry: Any, truth: GroundTruth, images: set[int], categories: set[int]) -> str:
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
                f"has {name} {number}, which {truth.source} does not contain; "
                "evaluate on the split that the detections were made on."
            )
    if not np.isfinite(score):
        return f"has the score {score}; scores must be finite numbers."
    if not np.isfinite(bbox).all():
        return f"has the bbox {list(bbox)}; boxes must be finite numbers."
    return ""
