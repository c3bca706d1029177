"""Sheet of the worst errors of each kind: false positives with the highest scores, the largest missed objects."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tood.data.box_drawing import as_corners, caption_font, draw_detections
from tood.data.decode import decode_image
from tood.data.split_table import SplitTable
from tood.evaluation.error_kinds import DetectionErrors, ErrorKind, find_errors
from tood.io.write import write_with
from tood.reporting.comparison import ComparisonStudy
from tood.reporting.details_table import NAMES
from tood.reporting.run_folder import RunFolder

_EACH = 5
_TILE, _GAP, _SIDE = 220, 6, 96
_AROUND = 0.6
"""How much of the picture is shown around a box, as a share of its longer side."""


def draw_error_sheet(study: ComparisonStudy, run: RunFolder, path: Path) -> bool:
    """Write the sheet of a run as PNG; False if it made no error. A line per kind that occurs."""
    errors = find_errors(study.table, run.detections(), run.path / "detections.json")
    lines = [(kind, worst_of(errors, kind, _EACH)) for kind in ErrorKind]
    lines = [(kind, places) for kind, places in lines if places]
    if not lines:
        return False
    sheet = Image.new("RGB", (_SIDE + _EACH * (_TILE + _GAP), len(lines) * (_TILE + _GAP) - _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    font = caption_font(15)
    for line, (kind, places) in enumerate(lines):
        top = line * (_TILE + _GAP)
        pen.text((2, top + _TILE // 2 - 8), NAMES[kind], fill="black", font=font)
        for column, place in enumerate(places):
            tile = _tile(study, errors, kind, place)
            left = _SIDE + column * (_TILE + _GAP) + (_TILE - tile.width) // 2
            sheet.paste(tile, (left, top + (_TILE - tile.height) // 2))
    write_with(path, lambda target: sheet.save(target))
    return True


def worst_of(errors: DetectionErrors, kind: ErrorKind, most: int) -> list[int]:
    """Positions of detections, or for missed ones of objects, at most one of each picture, the worst first."""
    if kind is ErrorKind.MISSED:
        places, images = np.flatnonzero(errors.missed), errors.objects.images
        size = errors.objects.boxes[:, 2] * errors.objects.boxes[:, 3]
    else:
        places, images, size = np.flatnonzero(errors.kind == kind), errors.found.images, errors.found.scores
    ordered = places[np.argsort(-size[places], kind="stable")]
    _, first = np.unique(images[ordered], return_index=True)
    return [int(one) for one in ordered[np.sort(first)][:most]]


def _tile(study: ComparisonStudy, errors: DetectionErrors, kind: ErrorKind, place: int) -> Image.Image:
    """The surroundings of one error with the objects there, and the detection if it is one."""
    table: SplitTable = study.table
    of_object = kind is ErrorKind.MISSED
    position = int((errors.objects if of_object else errors.found).images[place])
    box = (errors.objects if of_object else errors.found).boxes[place]
    picture = decode_image(study.split.images / table.file_names[position])
    left, top, right, bottom = _window(box, picture.shape[-1], picture.shape[-2])
    boxes, labels = errors.objects.of_image(position)
    corners = np.asarray(as_corners(boxes.tolist())).reshape(-1, 4)
    seen = (corners[:, :2] < [right, bottom]).all(axis=1) & (corners[:, 2:] > [left, top]).all(axis=1)
    moved: Any = corners[seen] - [left, top, left, top]
    crop = picture[:, top:bottom, left:right]
    scale = _TILE / max(right - left, bottom - top)
    drawn = draw_detections(crop, moved, labels[seen], None, table.classes, longer_side=_TILE)
    if of_object:
        return drawn
    found = (np.asarray(as_corners([box.tolist()])) - [left, top, left, top]) * scale
    label, score = errors.found.labels[place], errors.found.scores[place]
    return draw_detections(drawn, found, [label], [score], table.classes)


def _window(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The part of a picture around a box xywh, at least 32 px wide, inside it: left, top, right, bottom."""
    x, y, w, h = box.tolist()
    around = max(_AROUND * max(w, h), (32 - max(w, h)) / 2)
    left, top = max(int(x - around), 0), max(int(y - around), 0)
    right, bottom = min(int(np.ceil(x + w + around)), width), min(int(np.ceil(y + h + around)), height)
    return min(left, width - 1), min(top, height - 1), max(right, left + 1), max(bottom, top + 1)
