"""Side-by-side sheet of detections: rows are images, columns are ground truth and each method's detections."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tood.data.box_drawing import SHOWN_SCORE, as_corners, caption_font, draw_detections, spread_evenly
from tood.data.decode import decode_image
from tood.evaluation.ground_truth import Objects
from tood.io.write import write_with
from tood.reporting.comparison import ComparisonStudy, Row

_IMAGES, _COLUMNS = 5, 5
_TILE, _GAP, _HEADER = 340, 6, 30


def draw_sheet(study: ComparisonStudy, best: str, path: Path) -> bool:
    """Write the sheet as PNG; False if the split has no image with objects. ``best`` always gets a column."""
    table = study.table
    every = Objects.of(table)
    with_objects = np.unique(every.images[~every.crowd]).tolist()
    if not with_objects:
        return False
    chosen = {position: int(table.image_ids[position]) for position in spread_evenly(with_objects, _IMAGES)}
    rows = _columns(study, best)
    category_ids = table.category_ids.tolist()
    labels = {category: label for label, category in enumerate(category_ids)}
    found = [_by_image(row.runs[0].detections(), chosen.values()) for row in rows]
    lines = []
    for position, image in chosen.items():
        pixels = decode_image(study.split.images / table.file_names[position])
        boxes, classes = every.of_image(position)
        objects = [
            {"bbox": box, "category_id": category_ids[label]}
            for box, label in zip(boxes.tolist(), classes.tolist(), strict=True)
        ]
        tiles = [_tile(pixels, objects, labels, table.classes, scored=False)]
        tiles += [_tile(pixels, each[image], labels, table.classes, scored=True) for each in found]
        lines.append(tiles)
    sheet = _assemble(["ground truth", *(row.name for row in rows)], lines)
    write_with(path, lambda target: sheet.save(target))
    return True


def _columns(study: ComparisonStudy, best: str) -> list[Row]:
    """All rows if they fit; otherwise the baseline and the best among the first ones."""
    if len(study.rows) <= _COLUMNS:
        return list(study.rows)
    needed = {study.baseline, best}
    others = [row.name for row in study.rows if row.name not in needed][: _COLUMNS - len(needed)]
    return [row for row in study.rows if row.name in needed or row.name in others]


def _by_image(detections: Sequence[dict[str, Any]], images: Iterable[int]) -> dict[int, list[dict[str, Any]]]:
    grouped: dict[int, list[dict[str, Any]]] = {image: [] for image in images}
    for entry in detections:
        if entry["image_id"] in grouped and entry["score"] >= SHOWN_SCORE:
            grouped[entry["image_id"]].append(entry)
    return grouped


def _tile(
    pixels: Any,
    entries: Sequence[dict[str, Any]],
    labels: dict[int, int],
    classes: Sequence[str],
    *,
    scored: bool,
) -> Image.Image:
    boxes = as_corners(entry["bbox"] for entry in entries)
    scores = [entry["score"] for entry in entries] if scored else None
    names = [labels[entry["category_id"]] for entry in entries]
    return draw_detections(pixels, boxes, names, scores, classes, longer_side=_TILE)


def _assemble(titles: Sequence[str], lines: Sequence[Sequence[Image.Image]]) -> Image.Image:
    width = max(tile.width for line in lines for tile in line)
    heights = [max(tile.height for tile in line) for line in lines]
    size = (len(titles) * (width + _GAP) - _GAP, _HEADER + sum(heights) + _GAP * (len(lines) - 1))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    font = caption_font(17, *titles)
    for column, title in enumerate(titles):
        pen.text((column * (width + _GAP) + 2, 4), title, fill="black", font=font)
    top = _HEADER
    for line, height in zip(lines, heights, strict=True):
        for column, tile in enumerate(line):
            left = column * (width + _GAP) + (width - tile.width) // 2
            sheet.paste(tile, (left, top + (height - tile.height) // 2))
        top += height + _GAP
    return sheet
