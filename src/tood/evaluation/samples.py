"""Sample pictures of a split with what a detector found there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tood.data.decode import decode_image
from tood.data.index import AnnotationIndex
from tood.data.prepared import PreparedSplit
from tood.files import write_with
from tood.pictures import draw_detections

_COUNT = 8
_SCORE = 0.3
_LONGER_SIDE = 480


def write_samples(
    folder: Path, split: PreparedSplit, classes: tuple[str, ...], results: Sequence[Mapping[str, Any]]
) -> None:
    """Draw detections scoring at least 0.3 on images spread evenly over the split, one PNG each."""
    index = AnnotationIndex.load(split, classes)
    step = max(1, len(index) // _COUNT)
    labels = {category: label for label, category in enumerate(index.category_ids)}
    folder.mkdir(parents=True, exist_ok=True)
    for position in range(0, len(index), step)[:_COUNT]:
        image_id = int(index.image_ids[position])
        found = [one for one in results if one["image_id"] == image_id and one["score"] >= _SCORE]
        boxes = [(x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in found)]
        drawn = draw_detections(
            decode_image(split.images / str(index.file_names[position])),
            boxes,
            [labels[one["category_id"]] for one in found],
            [one["score"] for one in found],
            classes,
            longer_side=_LONGER_SIDE,
        )
        write_with(folder / f"image-{image_id:06d}.png", drawn.save)
