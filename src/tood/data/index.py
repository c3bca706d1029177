"""The annotations of a split as flat arrays: cheap to hold, to share with worker processes and to slice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tood.data.decode import image_size
from tood.data.prepared import PreparedSplit
from tood.data.records import SMALLEST_BOX
from tood.errors import UserError
from tood.files import read_json

SMALLEST_IMAGE_SIDE = 32


@dataclass(frozen=True, eq=False)
class AnnotationIndex:
    """I images in ascending id and their M training targets, those of image i at box_offsets[i:i+2].

    Targets follow spec section 5: crowd regions, ignored annotations, boxes below 1 px in width or height,
    without area or without overlap with the image are left out. Boxes are otherwise as annotated and may
    stick out of the image.
    """

    source: str
    """Where this came from, for messages."""
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    """COCO category id of each label."""
    image_ids: NDArray[np.int64]
    """(I,)"""
    file_names: NDArray[np.str_]
    """(I,) relative to the folder of images."""
    widths: NDArray[np.int64]
    """(I,) px."""
    heights: NDArray[np.int64]
    """(I,) px."""
    box_offsets: NDArray[np.int64]
    """(I+1,)"""
    boxes: NDArray[np.float32]
    """(M,4) xyxy px."""
    labels: NDArray[np.int64]
    """(M,) 0..C-1, ascending category id."""

    def __len__(self) -> int:
        return len(self.image_ids)

    def targets(self, position: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Boxes (n,4) and labels (n,) of the image at ``position``."""
        part = slice(self.box_offsets[position], self.box_offsets[position + 1])
        return self.boxes[part], self.labels[part]

    @classmethod
    def load(cls, split: PreparedSplit, classes: Sequence[str], *, drop_empty: bool = False) -> "AnnotationIndex":
        """Read a prepared split.

        ``drop_empty`` leaves out what the paper leaves out of training: images without any annotation
        (a crowd region is one) and images with a side below 32 px. Raises UserError when the file does not
        have the COCO form or its categories are not ``classes``.
        """
        content = read_json(split.annotations)
        try:
            categories = sorted((int(c["id"]), str(c["name"])) for c in content["categories"])
            images = sorted(
                (int(i["id"]), str(i["file_name"]), int(i["width"]), int(i["height"])) for i in content["images"]
            )
            annotations = _Annotations.of(content["annotations"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{split.annotations}: is not a complete COCO file ({type(error).__name__}: {error}); "
                "prepare the data set again."
            ) from error
        names = tuple(name for _, name in categories)
        if names != tuple(classes):
            raise UserError(
                f"{split.annotations}: has the categories {', '.join(names)}, "
                f"but the data set has the classes {', '.join(classes)}; prepare the data set again."
            )
        if drop_empty:
            annotated = set(annotations.image_ids.tolist())
            images = [i for i in images if i[0] in annotated and min(i[2:]) >= SMALLEST_IMAGE_SIDE]
        category_ids = tuple(number for number, _ in categories)
        return _build(str(split.annotations), names, category_ids, images, annotations)

    @classmethod
    def of_files(
        cls, folder: Path, file_names: Sequence[str], classes: Sequence[str], category_ids: Sequence[int]
    ) -> "AnnotationIndex":
        """Images without annotations, for prediction: ids 1..I in the order given, sizes from the headers."""
        sizes = [image_size(folder / name) for name in file_names]
        images = [(k + 1, name, *size) for k, (name, size) in enumerate(zip(file_names, sizes, strict=True))]
        return _build(str(folder), tuple(classes), tuple(category_ids), images, _Annotations.of([]))


@dataclass(frozen=True, eq=False)
class _Annotations:
    """All annotations of a file, in its order."""

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    """(n,4) xywh px."""
    areas: NDArray[np.float64]
    used: NDArray[np.bool_]
    """False for crowd regions and ignored ones."""

    @classmethod
    def of(cls, entries: Sequence[Any]) -> "_Annotations":
        boxes = np.array([_four(entry["bbox"]) for entry in entries], np.float64).reshape(-1, 4)
        areas = [entry.get("area", width * height) for entry, (_, _, width, height) in zip(entries, boxes, strict=True)]
        return cls(
            image_ids=np.array([entry["image_id"] for entry in entries], np.int64),
            category_ids=np.array([entry["category_id"] for entry in entries], np.int64),
            boxes=boxes,
            areas=np.array(areas, np.float64),
            used=np.array([not (e.get("iscrowd") or e.get("ignore")) for e in entries], bool),
        )


def _four(box: Any) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return x, y, width, height


def _build(
    source: str,
    classes: tuple[str, ...],
    category_ids: tuple[int, ...],
    images: list[tuple[int, str, int, int]],
    annotations: _Annotations,
) -> AnnotationIndex:
    image_ids = np.array([i[0] for i in images], np.int64)
    if len(np.unique(image_ids)) < len(image_ids):
        raise UserError(f"{source}: an image id occurs twice; prepare the data set again.")
    widths = np.array([i[2] for i in images], np.int64)
    heights = np.array([i[3] for i in images], np.int64)
    position, known = _look_up(image_ids, annotations.image_ids)
    label, in_classes = _look_up(np.array(category_ids, np.int64), annotations.category_ids)
    x, y, w, h = annotations.boxes.T
    if len(images):
        inside_w = np.minimum(x + w, widths[position]) - np.maximum(x, 0)
        inside_h = np.minimum(y + h, heights[position]) - np.maximum(y, 0)
    else:
        inside_w = inside_h = np.zeros_like(x)
    keep = annotations.used & known & in_classes & (annotations.areas > 0)
    keep &= (w >= SMALLEST_BOX) & (h >= SMALLEST_BOX) & (inside_w > 0) & (inside_h > 0)
    order = np.argsort(position[keep], kind="stable")
    counts = np.bincount(position[keep], minlength=len(images))
    return AnnotationIndex(
        source=source,
        classes=classes,
        category_ids=category_ids,
        image_ids=image_ids,
        file_names=np.array([i[1] for i in images], np.str_),
        widths=widths,
        heights=heights,
        box_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=np.stack([x, y, x + w, y + h], axis=1)[keep][order].astype(np.float32),
        labels=label[keep][order],
    )


def _look_up(ascending: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Position of each wanted id among the ascending ids (0 where unknown), and whether it is there."""
    if not len(ascending):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    position = np.searchsorted(ascending, wanted).clip(max=len(ascending) - 1)
    known = ascending[position] == wanted
    return np.where(known, position, 0).astype(np.int64), known
