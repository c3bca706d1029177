"""Sample images of a split with their detections drawn on them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tood.data.box_drawing import SHOWN_SCORE, as_corners, draw_detections, spread_evenly
from tood.data.decode import decode_image
from tood.data.split_table import SplitTable
from tood.io.write import write_with

_COUNT = 8
_OWN_NAME = re.compile(r"image-\d{6,}\.png")
_LONGER_SIDE = 480


def sampled_positions(table: SplitTable) -> list[int]:
    """Positions of the sample images, spread evenly over the split."""
    return spread_evenly(range(len(table.image_ids)), _COUNT)


def write_samples(folder: Path, table: SplitTable, images: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Draw detections scoring at least ``SHOWN_SCORE`` on images spread evenly over the split, one PNG each.

    ``images`` is the folder of the split's images. The pictures replace the ``image-<id>.png`` of an earlier call;
    other files in ``folder`` stay.
    """
    labels = {category: label for label, category in enumerate(table.category_ids.tolist())}
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if _OWN_NAME.fullmatch(path.name):
            path.unlink()
    for position in sampled_positions(table):
        image_id = int(table.image_ids[position])
        found = [one for one in results if one["image_id"] == image_id and one["score"] >= SHOWN_SCORE]
        boxes = as_corners(one["bbox"] for one in found)
        drawn = draw_detections(
            decode_image(images / table.file_names[position]),
            boxes,
            [labels[one["category_id"]] for one in found],
            [one["score"] for one in found],
            table.classes,
            longer_side=_LONGER_SIDE,
        )
        write_with(folder / f"image-{image_id:06d}.png", drawn.save)
