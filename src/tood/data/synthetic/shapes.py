"""Generated pictures: textured shapes on clutter.

A picture is a pure function of (size, split seed, index). Objects overlap and cross each other; one is only
placed where at least ``MIN_VISIBLE`` of its own surface and of every object below it can be seen, so whatever
can be recognised in a picture is labelled and whatever is labelled can be recognised. A box is tight around
the full outline (also where another object covers it) inside the image; ``area`` counts visible pixels.
``disc`` and ``hexagon`` are the pair that is easily confused.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tood.data.random_streams import random_stream
from tood.data.synthetic.scenes import (
    CLASSES,
    Outline,
    Patch,
    draw_background,
    draw_lines,
    draw_outline,
    draw_patch,
    draw_surface,
    finish,
)

MIN_VISIBLE = 0.35
_TRIES = 8
_CLUTTER_SHARE = 0.12
_SMALLEST_SIDE = 2.0


@dataclass(frozen=True)
class Shape:
    """One object: label 0..C-1, box (x1,y1,x2,y2) px inside the image, area of the visible part in px."""

    label: int
    box: tuple[float, float, float, float]
    area: float


@dataclass(frozen=True)
class Scene:
    """One picture (h,w,3) uint8 RGB and the objects in it."""

    pixels: NDArray[np.uint8]
    shapes: tuple[Shape, ...]


class Stage:
    """A canvas, who owns each pixel (-1: background), and what was placed so far."""

    def __init__(self, canvas: Image.Image) -> None:
        self.canvas = canvas
        self.owner = np.full((canvas.height, canvas.width), -1, np.int16)
        self.labels: list[int] = []
        self.boxes: list[tuple[float, float, float, float]] = []
        self.full: list[int] = []

    def place(self, rng: np.random.Generator, outline: Outline, centre: tuple[float, float]) -> bool:
        """Draw an object unless it, or something below it, would be seen too little. True if drawn."""
        patch = draw_patch(outline, centre)
        height, width = self.owner.shape
        x1, y1 = max(patch.left, 0), max(patch.top, 0)
        x2 = min(patch.left + patch.coverage.shape[1], width)
        y2 = min(patch.top + patch.coverage.shape[0], height)
        if x1 >= x2 or y1 >= y2:
            return False
        solid = patch.coverage >= 128
        inside = solid[y1 - patch.top : y2 - patch.top, x1 - patch.left : x2 - patch.left]
        full = int(np.count_nonzero(solid))
        if np.count_nonzero(inside) < max(MIN_VISIBLE * full, 1) or not self._spares_others(inside, x1, y1, x2, y2):
            return False
        behind = np.asarray(self.canvas.crop((x1, y1, x2, y2)).resize((1, 1), Image.Resampling.BOX), float)[0, 0]
        box = self._box_inside(patch)
        if min(box[2] - box[0], box[3] - box[1]) < _SMALLEST_SIDE:
            return False
        surface = draw_surface(rng, outline, patch, centre, behind)
        self.canvas.paste(surface, (patch.left, patch.top), Image.fromarray(patch.coverage))
        self.owner[y1:y2, x1:x2][inside] = len(self.labels)
        self.labels.append(outline.label)
        self.boxes.append(box)
        self.full.append(full)
        return True

    def _spares_others(self, inside: NDArray[np.bool_], x1: int, y1: int, x2: int, y2: int) -> bool:
        if not self.labels:
            return True
        count = len(self.labels) + 1
        seen = np.bincount(self.owner.ravel() + 1, minlength=count)[1:]
        covered = np.bincount(self.owner[y1:y2, x1:x2][inside] + 1, minlength=count)[1:]
        return bool(np.all(seen - covered >= np.maximum(MIN_VISIBLE * np.array(self.full), 1)))

    def _box_inside(self, patch: Patch) -> tuple[float, float, float, float]:
        """The tight box; where the border cuts the outline, tight around the part inside."""
        height, width = self.owner.shape
        x1, y1, x2, y2 = patch.box
        if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
            return patch.box
        top, left = max(0, -patch.top), max(0, -patch.left)
        part = patch.coverage[top : height - patch.top, left : width - patch.left] >= 32
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        left, top = max(patch.left, 0), max(patch.top, 0)
        x1, x2 = max(x1, float(left + columns[0])), min(x2, float(left + columns[-1] + 1))
        y1, y2 = max(y1, float(top + rows[0])), min(y2, float(top + rows[-1] + 1))
        return x1, y1, x2, y2

    def shapes(self) -> tuple[Shape, ...]:
        seen = np.bincount(self.owner.ravel() + 1, minlength=len(self.labels) + 1)[1:]
        return tuple(
            Shape(label, box, float(area))
            for label, box, area in zip(self.labels, self.boxes, seen.tolist(), strict=True)
        )


def _draw_canvas_size(rng: np.random.Generator, size: int) -> tuple[int, int]:
    short = round(size * rng.uniform(0.62, 1.0))
    kind = rng.random()
    return (size, size) if kind < 0.3 else (size, short) if kind < 0.7 else (short, size)


def _draw_radii(rng: np.random.Generator, size: int) -> list[float]:
    """Half extents of a scene's objects, mostly the largest first so that small ones stay visible."""
    if rng.random() < 0.02:
        return []
    count = int(rng.choice(6, p=(0.14, 0.24, 0.25, 0.19, 0.11, 0.07))) + 1
    ranges = ((0.065, 0.16), (0.16, 0.55), (0.55, 1.1))
    spans = [np.exp(rng.uniform(*np.log(ranges[k]))) for k in rng.choice(3, count, p=(0.14, 0.78, 0.08))]
    order = np.argsort(-np.array(spans) * rng.uniform(0.5, 1.0, count))
    return [float(spans[k]) * size / 2 for k in order]


def draw_scene(seed: int, index: int, size: int) -> Scene:
    """The picture ``index`` of the split with this seed; ``size`` px is its longer side."""
    rng = random_stream("scene", seed, index)
    width, height = _draw_canvas_size(rng, size)
    stage = Stage(draw_background(rng, width, height))
    for radius in _draw_radii(rng, size):
        outline = draw_outline(rng, int(rng.integers(len(CLASSES))), radius)
        for _ in range(_TRIES):
            if stage.boxes and rng.random() < 0.4:  # near an earlier object, so that some objects cross
                x1, y1, x2, y2 = stage.boxes[int(rng.integers(len(stage.boxes)))]
                spread = 0.3 * max(x2 - x1, y2 - y1)
                centre = rng.normal(((x1 + x2) / 2, (y1 + y2) / 2), spread)
            else:
                centre = rng.uniform(0.04, 0.96, 2) * (width, height)
            if stage.place(rng, outline, (float(centre[0]), float(centre[1]))):
                break
    if rng.random() < 0.4:
        draw_lines(rng, stage.canvas, int(rng.integers(1, 3)))
    return Scene(finish(rng, stage.canvas), stage.shapes())


def generate_crops(count: int, size: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Patches of one centred object each, or of pure clutter, to pretrain a backbone on.

    Returns images (count,3,size,size) uint8 RGB and labels (count,) in 0..C, where C is clutter without an
    object. They come from a random stream of their own: no scene of any split shares it, whatever the seeds.
    """
    images = np.empty((count, 3, size, size), np.uint8)
    labels = np.empty(count, np.int64)
    for index in range(count):
        rng = random_stream("crop", seed, index)
        labels[index] = len(CLASSES) if rng.random() < _CLUTTER_SHARE else rng.integers(len(CLASSES))
        images[index] = _draw_crop(rng, int(labels[index]), size).transpose(2, 0, 1)
    return images, labels


def _draw_crop(rng: np.random.Generator, label: int, size: int) -> NDArray[np.uint8]:
    stage = Stage(draw_background(rng, size, size))
    if label == len(CLASSES):
        return finish(rng, stage.canvas)
    if rng.random() < 0.4:  # a neighbour reaching in from the side
        turn = rng.uniform(0, 2 * np.pi)
        neighbour = draw_outline(rng, int(rng.integers(len(CLASSES))), size * rng.uniform(0.2, 0.5))
        stage.place(rng, neighbour, (size * (0.5 + 0.6 * np.cos(turn)), size * (0.5 + 0.6 * np.sin(turn))))
    for _ in range(_TRIES):
        outline = draw_outline(rng, label, size * float(np.exp(rng.uniform(*np.log((0.15, 0.6))))))
        x, y = size * (0.5 + np.clip(rng.normal(0.0, 0.08, 2), -0.2, 0.2))
        if stage.place(rng, outline, (float(x), float(y))):
            return finish(rng, stage.canvas)
    return _draw_crop(rng, label, size)  # the neighbour was in the way
