"""The annotations of a split as flat arrays: cheap to hold, to share with worker processes and to slice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tood.data.columns import Texts, look_up
from tood.data.decode import image_size
from tood.data.formats.records import SMALLEST_BOX
from tood.data.prepared import PreparedSplit
from tood.data.split_table import SplitTable
from tood.io.errors import UserError

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

    def targets(self, position: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Boxes (n,4) and labels (n,) of the image at ``position``."""
        part = slice(self.box_offsets[position], self.box_offsets[position + 1])
        return self.boxes[part], self.labels[part]

    @classmethod
    def load(cls, split: PreparedSplit, classes: Sequence[str], *, drop_empty: bool = False) -> "AnnotationIndex":
        """Read a prepared split.

        ``drop_empty`` leaves out what the paper leaves out of training: images without any annotation
        (a crowd region is one) and images with a side below 32 px. Raises UserError when the file does not
        hold a split or its categories are not ``classes``.
        """
        table = SplitTable.of_split(split)
        if table.classes != tuple(classes):
            raise UserError(
                f"{split.annotations}: has the categories {', '.join(table.classes)}, "
                f"but the data set has the classes {', '.join(classes)}; prepare the data set again."
            )
        if not drop_empty:
            return _of_table(table, np.arange(len(table.image_ids)))
        annotated = np.isin(table.image_ids, table.annotations.image_ids)
        large = np.minimum(table.widths, table.heights) >= SMALLEST_IMAGE_SIDE
        return _of_table(table, np.flatnonzero(annotated & large))

    @classmethod
    def of_files(
        cls, folder: Path, file_names: Sequence[str], classes: Sequence[str], category_ids: Sequence[int]
    ) -> "AnnotationIndex":
        """Images without annotations, for prediction: ids 1..I in the order given, sizes from the headers."""
        sizes = np.array([image_size(folder / name) for name in file_names], np.int64).reshape(-1, 2)
        return cls(
            source=str(folder),
            classes=tuple(classes),
            category_ids=tuple(category_ids),
            image_ids=np.arange(1, len(file_names) + 1),
            file_names=Texts.of(file_names),
            widths=sizes[:, 0],
            heights=sizes[:, 1],
            box_offsets=np.zeros(len(file_names) + 1, np.int64),
            boxes=np.zeros((0, 4), np.float32),
            labels=np.zeros(0, np.int64),
        )


def _of_table(table: SplitTable, kept: NDArray[np.intp]) -> AnnotationIndex:
    """The index of the images at the positions ``kept``, which ascend."""
    image_ids, widths, heights = table.image_ids[kept], table.widths[kept], table.heights[kept]
    every = table.annotations
    position, known = look_up(image_ids, every.image_ids)
    label, in_classes = look_up(table.category_ids, every.category_ids)
    x, y, w, h = every.boxes.T
    used = known & in_classes & ~every.crowd & ~every.ignored & (every.areas > 0)
    used &= (w >= SMALLEST_BOX) & (h >= SMALLEST_BOX)
    if len(kept):
        used &= (np.minimum(x + w, widths[position]) > np.maximum(x, 0)) & (
            np.minimum(y + h, heights[position]) > np.maximum(y, 0)
        )
    order = np.argsort(position[used], kind="stable")
    counts = np.bincount(position[used], minlength=len(kept))
    return AnnotationIndex(
        source=table.source,
        classes=table.classes,
        category_ids=tuple(table.category_ids.tolist()),
        image_ids=image_ids,
        file_names=table.file_names.take(kept),
        widths=widths,
        heights=heights,
        box_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=np.stack([x, y, x + w, y + h], axis=1)[used][order].astype(np.float32),
        labels=label[used][order],
    )
