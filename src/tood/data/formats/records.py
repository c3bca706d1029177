"""Records of images, boxes and categories that the readers of all formats produce; conversion to COCO json."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tood.config.datasets import SharedKind
from tood.data.findings import Findings

SMALLEST_BOX = 1.0  # px; boxes of less width or height are not trained on
_FAR = 0.05  # share of an image's side
TOO_THIN = "narrower or lower than a pixel, which is not trained on"


@dataclass(frozen=True, slots=True)
class Category:
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image file below its split's folder; width and height (px) after EXIF transposition."""

    id: int
    file_name: str
    width: int
    height: int
    source: str = ""
    """Where its annotation is written, for messages."""


@dataclass(frozen=True, slots=True)
class BoxRecord:
    """One object; ``bbox`` is (x, y, w, h) in pixels of the decoded image.

    ``crowd`` is COCO's ``iscrowd``; ``ignore`` its rarer flag for objects that are not to be trained on.
    """

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    crowd: bool = False
    ignore: bool = False


@dataclass(frozen=True)
class RawSplit:
    name: str
    folder: Path
    images: Sequence[ImageRecord]
    boxes: Sequence[BoxRecord]

    def path(self, image: ImageRecord) -> Path:
        return self.folder / image.file_name

    def without(self, image_ids: Collection[int]) -> "RawSplit":
        """The split without some images and their boxes."""
        return replace(
            self,
            images=[image for image in self.images if image.id not in image_ids],
            boxes=[box for box in self.boxes if box.image_id not in image_ids],
        )

    def has_targets(self) -> bool:
        """Whether there is any object to train on (see ``TrainingTargets``)."""
        return any(
            not (box.crowd or box.ignore) and box.area > 0 and min(box.bbox[2:]) >= SMALLEST_BOX for box in self.boxes
        )


@dataclass(frozen=True)
class RawDataset:
    """A data set as read from its own format; categories in ascending id are labels 0..C-1."""

    categories: tuple[Category, ...]
    splits: tuple[RawSplit, ...]

    @property
    def classes(self) -> list[str]:
        return [category.name for category in self.categories]


def numbered(classes: Sequence[str]) -> tuple[Category, ...]:
    """Category ids 1..C in class order, for formats without ids of their own."""
    return tuple(Category(index, name) for index, name in enumerate(classes, start=1))


def to_coco(split: RawSplit, categories: Sequence[Category]) -> dict[str, Any]:
    """The content of the split's COCO json."""
    return {
        "images": [
            {"id": image.id, "file_name": image.file_name, "width": image.width, "height": image.height}
            for image in split.images
        ],
        "annotations": [
            {
                "id": box.id,
                "image_id": box.image_id,
                "category_id": box.category_id,
                "bbox": list(box.bbox),
                "area": box.area,
                "iscrowd": int(box.crowd),
                **({"ignore": 1} if box.ignore else {}),
            }
            for box in split.boxes
        ],
        "categories": [{"id": category.id, "name": category.name} for category in categories],
    }


@dataclass(frozen=True)
class Fitted:
    """A box (x1, y1, x2, y2) px made to lie in its image; ``problem`` says what was wrong with it.

    ``box`` is None if nothing of it lies in the image.
    """

    box: tuple[float, float, float, float] | None
    problem: str | None = None
    kind: SharedKind | None = None
    """The problem, where it is one that is refused if most images share it."""


def fit_box(x1: float, y1: float, x2: float, y2: float, width: int, height: int) -> Fitted:
    """Clip a box to its image (px); boxes that have no area, before or after, are dropped.

    A box that exceeds the image by up to a pixel is rounded (VOC counts from one), so it is clipped without a note.
    """
    if not all(math.isfinite(value) for value in (x1, y1, x2, y2)):
        return Fitted(None, "with a coordinate that is not a number dropped")
    if x2 <= x1 or y2 <= y1:
        swapped = x2 != x1 and y2 != y1
        return Fitted(None, "with swapped corners dropped" if swapped else "without area dropped", "no_area")
    clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return Fitted(None, "outside the image dropped", "outside_image")
    if min(clipped[2] - clipped[0], clipped[3] - clipped[1]) < SMALLEST_BOX:
        return Fitted(clipped, TOO_THIN, "below_pixel")
    over = reach_over(x1, y1, x2, y2, width, height)
    if max(over) > 1.0:
        return Fitted(clipped, "reaching over the edge of the image clipped", beyond_edge(over, width, height))
    return Fitted(clipped)


def reach_over(x1: float, y1: float, x2: float, y2: float, width: int, height: int) -> tuple[float, float]:
    """How far (px) a box reaches over its image's edges, horizontally and vertically."""
    return max(-x1, x2 - width), max(-y1, y2 - height)


def beyond_edge(over: tuple[float, float], width: int, height: int) -> SharedKind | None:
    """The finding of a box that reaches ``over`` the edge by more than an annotator's hand does."""
    return "beyond_edge" if over[0] > _FAR * width or over[1] > _FAR * height else None


def note_fit(fitted: Fitted, where: str, image: Path, findings: Findings) -> None:
    """Note what was wrong with a box of the file ``image``."""
    if fitted.problem is not None:
        findings.box(where, fitted.problem)
    if fitted.kind is not None:
        findings.share(fitted.kind, image)


def to_xywh(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) to (x, y, w, h)."""
    x1, y1, x2, y2 = box
    return x1, y1, x2 - x1, y2 - y1
