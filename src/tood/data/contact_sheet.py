"""Contact sheet: sample images of a data set with their boxes, to check annotations at a glance."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from tood.data.box_drawing import as_corners, caption_font, draw_detections
from tood.data.decode import decode_image
from tood.data.formats.records import BoxRecord, ImageRecord, RawDataset, RawSplit
from tood.io.errors import UserError
from tood.io.escape import escape
from tood.io.write import write_with

_CELL = (420, 340)  # px of a picture's place
_CAPTION, _MARGIN = 26, 12  # px
_PAPER, _INK, _MOUNT = (255, 255, 255), (60, 60, 60), (238, 238, 238)
_POOL = 400  # pictures per split looked at when choosing


@dataclass(frozen=True)
class _Sample:
    split: RawSplit
    image: ImageRecord
    boxes: Sequence[BoxRecord]


def sample_grid(dataset: RawDataset, path: Path, *, count: int = 12, seed: int = 0) -> int:
    """Write a PNG of ``count`` images with boxes and class names; returns the number of images in it.

    Images are chosen by ``seed``, from all splits in turn, those with classes not yet shown first. Crowd
    regions are captioned as such. Pictures that cannot be decoded are passed over; if none is left, nothing
    is written.
    """
    cells: list[Image.Image] = []
    for sample in _choose(dataset, count, seed):
        try:
            cells.append(_cell(sample, dataset))
        except UserError:
            continue
    if not cells:
        return 0
    columns = min(4, len(cells))
    rows = -(-len(cells) // columns)
    width, height = cells[0].size
    size = (columns * (width + _MARGIN) + _MARGIN, rows * (height + _MARGIN) + _MARGIN)
    sheet = Image.new("RGB", size, _PAPER)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        sheet.paste(cell, (_MARGIN + column * (width + _MARGIN), _MARGIN + row * (height + _MARGIN)))
    write_with(path, lambda temporary: sheet.save(temporary, format="PNG"))
    return len(cells)


def _choose(dataset: RawDataset, count: int, seed: int) -> list[_Sample]:
    rng = random.Random(seed)
    pools = [_pool(split, rng) for split in dataset.splits if split.images]
    chosen: list[_Sample] = []
    seen: set[int] = set()
    while len(chosen) < count and any(pools):
        for pool in pools:
            if pool and len(chosen) < count:
                best = max(pool, key=lambda sample: _news(sample, seen))
                pool.remove(best)
                chosen.append(best)
                seen |= {box.category_id for box in best.boxes}
    return chosen


def _pool(split: RawSplit, rng: random.Random) -> list[_Sample]:
    """A random part of a split with its boxes."""
    images = rng.sample(list(split.images), min(_POOL, len(split.images)))
    boxes: dict[int, list[BoxRecord]] = {image.id: [] for image in images}
    for box in split.boxes:
        if box.image_id in boxes:
            boxes[box.image_id].append(box)
    return [_Sample(split, image, boxes[image.id]) for image in images]


def _news(sample: _Sample, seen: set[int]) -> tuple[int, bool]:
    return len({box.category_id for box in sample.boxes} - seen), bool(sample.boxes)


def _cell(sample: _Sample, dataset: RawDataset) -> Image.Image:
    width, height = _CELL
    scale = min(width / sample.image.width, height / sample.image.height)
    labels = {category.id: label for label, category in enumerate(dataset.categories)}
    classes = [*dataset.classes, *(f"{name} (crowd)" for name in dataset.classes)]
    picture = draw_detections(
        decode_image(sample.split.path(sample.image)),
        as_corners(box.bbox for box in sample.boxes),
        [labels[box.category_id] + len(labels) * box.crowd for box in sample.boxes],
        None,
        classes,
        longer_side=max(1, round(scale * max(sample.image.width, sample.image.height))),
    )
    cell = Image.new("RGB", (width, height + _CAPTION), _PAPER)
    cell.paste(_MOUNT, (0, 0, width, height))
    cell.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    text = f"{sample.split.name}  ·  {escape(sample.image.file_name)}  ·  {sample.image.width}x{sample.image.height}"
    font = caption_font(13, sample.image.file_name)
    pen = ImageDraw.Draw(cell)
    while len(text) > 8 and pen.textlength(text, font=font) > width:
        text = f"{text[:-2]}…"
    pen.text((2, height + 5), text, fill=_INK, font=font)
    return cell
