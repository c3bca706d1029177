"""Training targets: boxes and labels of a split as flat arrays, which are cheap to share with worker processes."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tood.data.columns import Texts
from tood.data.formats.records import SMALLEST_BOX
from tood.data.split_table import SplitTable
from tood.io.errors import UserError

SMALLEST_IMAGE_SIDE = 32


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
        table = _without_empty(table) if drop_empty else table
        images, labels, known = table.locate_annotations()
        every = table.annotations
        x, y, w, h = every.boxes.T
        used = known & ~every.crowd & ~every.ignored & (every.areas > 0) & (w >= SMALLEST_BOX) & (h >= SMALLEST_BOX)
        if len(table.image_ids):
            used &= (np.minimum(x + w, table.widths[images]) > np.maximum(x, 0)) & (
                np.minimum(y + h, table.heights[images]) > np.maximum(y, 0)
            )
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
        )


def _refuse_unknown_files(table: SplitTable) -> None:
    unknown = (np.diff(table.file_names.offsets) == 0) | (table.widths < 1) | (table.heights < 1)
    if unknown.any():
        number = table.image_ids[unknown.argmax()]
        raise UserError(
            f"{table.source}: image {number} needs a file_name, width and height; prepare the data set again."
        )


def _without_empty(table: SplitTable) -> SplitTable:
    """The split without the images that ``drop_empty`` leaves out."""
    annotated = np.isin(table.image_ids, table.annotations.image_ids)
    large = np.minimum(table.widths, table.heights) >= SMALLEST_IMAGE_SIDE
    kept = np.flatnonzero(annotated & large)
    return replace(
        table,
        image_ids=table.image_ids[kept],
        file_names=table.file_names.take(kept),
        widths=table.widths[kept],
        heights=table.heights[kept],
    )
