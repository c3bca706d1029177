"""Training targets: boxes and labels of a split as flat arrays, which are cheap to share with worker processes."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tood.data.columns import Texts
from tood.data.formats.records import SMALLEST_BOX
from tood.data.split_table import SplitTable
from tood.data.tiles import Tiles
from tood.io.errors import UserError

SMALLEST_IMAGE_SIDE = 32


class Fate(IntEnum):
    """What becomes of an annotation in training: a target, or the first reason that fits."""

    TARGET = 0
    OF_NO_IMAGE = 1
    """Of an image that is left out."""
    CROWD = 2
    IGNORED = 3
    WITHOUT_AREA = 4
    THIN = 5
    """Below 1 px in width or height."""
    OUTSIDE = 6


@dataclass(frozen=True, eq=False)
class TrainingTargets:
    """I images in ascending id and their M targets, those of image i at box_offsets[i:i+2].

    Crowd regions, ignored annotations and boxes below 1 px in width or height, without area or without overlap with
    the image are no targets. Boxes are otherwise as annotated and may stick out of the image.
    """

    source: str
    """Where this came from, for messages."""
    category_ids: tuple[int, ...]
    """COCO category id of each label."""
    image_ids: NDArray[np.int64]
    """(I,)"""
    file_names: Texts
    """I names relative to the folder of images."""
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
    tiles: Tiles | None = None
    """What the images are tiles of, where they are none of their own."""

    def __len__(self) -> int:
        return len(self.image_ids)

    def of_image(self, position: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Boxes (n,4) and labels (n,) of the image at ``position``."""
        part = slice(self.box_offsets[position], self.box_offsets[position + 1])
        return self.boxes[part], self.labels[part]

    @classmethod
    def of(cls, table: SplitTable, *, drop_empty: bool = False) -> "TrainingTargets":
        """The targets of a split.

        ``drop_empty`` leaves out images that the paper leaves out: those without any annotation (a crowd region
        is one) and those with a side below 32 px. Raises UserError if the file or size of an image is missing.
        """
        _refuse_unknown_files(table)
        table = without_empty(table) if drop_empty else table
        images, labels, _ = table.locate_annotations()
        x, y, w, h = table.annotations.boxes.T
        used = fates(table) == Fate.TARGET
        order = np.argsort(images[used], kind="stable")
        counts = np.bincount(images[used], minlength=len(table.image_ids))
        return cls(
            source=table.source,
            category_ids=tuple(table.category_ids.tolist()),
            image_ids=table.image_ids,
            file_names=table.file_names,
            widths=table.widths,
            heights=table.heights,
            box_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            boxes=np.stack([x, y, x + w, y + h], axis=1)[used][order].astype(np.float32),
            labels=labels[used][order],
            tiles=table.tiles,
        )


def _refuse_unknown_files(table: SplitTable) -> None:
    unknown = (np.diff(table.file_names.offsets) == 0) | (table.widths < 1) | (table.heights < 1)
    if unknown.any():
        number = table.image_ids[unknown.argmax()]
        raise UserError(
            f"{table.source}: image {number} needs a file_name, width and height; prepare the data set again."
        )


@dataclass(frozen=True, eq=False)
class Presence:
    """What ``drop_empty`` asks of the I images of a split."""

    annotated: NDArray[np.bool_]
    """(I,) whether there is any annotation; a crowd region is one."""
    large: NDArray[np.bool_]
    """(I,) whether no side is below 32 px."""

    @classmethod
    def of(cls, table: SplitTable) -> "Presence":
        annotated = np.isin(table.image_ids, table.annotations.image_ids)
        return cls(annotated, np.minimum(table.widths, table.heights) >= SMALLEST_IMAGE_SIDE)


def without_empty(table: SplitTable) -> SplitTable:
    """The split without the images that ``drop_empty`` leaves out."""
    present = Presence.of(table)
    return table.take_images(np.flatnonzero(present.annotated & present.large))


def fates(table: SplitTable) -> NDArray[np.int64]:
    """(N,) what becomes of each annotation (a ``Fate``) before the resize; those of ``TrainingTargets`` are targets."""
    images, _, known = table.locate_annotations()
    every = table.annotations
    x, y, w, h = every.boxes.T
    inside = np.ones(len(every), bool)
    if len(table.image_ids):
        inside = (np.minimum(x + w, table.widths[images]) > np.maximum(x, 0)) & (
            np.minimum(y + h, table.heights[images]) > np.maximum(y, 0)
        )
    reasons = {
        Fate.OF_NO_IMAGE: ~known,
        Fate.CROWD: every.crowd,
        Fate.IGNORED: every.ignored,
        Fate.WITHOUT_AREA: ~(every.areas > 0),
        Fate.THIN: ~((w >= SMALLEST_BOX) & (h >= SMALLEST_BOX)),
        Fate.OUTSIDE: ~inside,
    }
    return np.select(list(reasons.values()), list(reasons), Fate.TARGET)
