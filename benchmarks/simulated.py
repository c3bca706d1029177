"""Made-up data of the size of COCO 2017: annotations with outlines, images that need no room, detections.

Counts, class shares and box sizes are like those of COCO; the contents mean nothing.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZES = ((640, 480), (480, 640), (640, 427), (427, 640), (500, 375), (640, 640))
OUTLINE = 30  # points of the outline that every object is given, which COCO has and detection does not use


@dataclass(frozen=True)
class Scene:
    """I images and their N objects; ``boxes`` (N,4) are xywh px, ``categories`` and ``positions`` are (N,)."""

    classes: int
    sizes: NDArray[np.int64]
    positions: NDArray[np.int64]
    categories: NDArray[np.int64]
    boxes: NDArray[np.float64]
    crowds: NDArray[np.bool_]

    @property
    def images(self) -> int:
        return len(self.sizes)


def make_scene(images: int, objects: int, classes: int = 80, seed: int = 0) -> Scene:
    """Every image has one to five classes; a hundredth of the images has no objects, of the objects is a crowd."""
    rng = np.random.default_rng(seed)
    sizes = np.array(SIZES)[rng.integers(0, len(SIZES), images)]
    load = rng.gamma(1.0, 1.0, images) + 0.1
    load[rng.random(images) < 0.01] = 0
    positions = np.sort(rng.choice(images, objects, p=load / load.sum()))
    shares = 1 / np.arange(1, classes + 1) ** 0.8
    palette = rng.choice(classes, (images, 5), p=shares / shares.sum())
    categories = palette[positions, np.minimum(rng.geometric(0.45, objects) - 1, 4)] + 1
    within = sizes[positions]
    extent = np.exp(rng.normal(-2.0, 0.9, (objects, 1)) + rng.normal(0, 0.35, (objects, 2))).clip(0.01, 0.99) * within
    corner = rng.random((objects, 2)) * (within - extent)
    boxes = np.concatenate([corner, extent], axis=1).round(2)
    return Scene(classes, sizes, positions, categories, boxes, rng.random(objects) < 0.01)


def file_name(image: int) -> str:
    return f"{image:012d}.jpg"


def write_annotations(scene: Scene, path: Path, *, outlines: bool) -> None:
    """A COCO file; with ``outlines`` about as long as COCO's own."""
    images = [
        {"license": 1, "file_name": file_name(number), "height": int(size[1]), "width": int(size[0]), "id": number}
        for number, size in enumerate(scene.sizes, start=1)
    ]
    categories = [{"supercategory": "thing", "id": number, "name": f"class {number}"} for number in _numbers(scene)]
    steps = np.random.default_rng(1).random((64, 2 * OUTLINE)).round(2)
    shapes = [f'"segmentation": [{json.dumps(step.tolist())}], ' if outlines else "" for step in steps]
    rows = zip(
        *(column.tolist() for column in (scene.positions, scene.categories, scene.boxes, scene.crowds)), strict=True
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"images": {json.dumps(images)}, "categories": {json.dumps(categories)}, "annotations": [')
        for number, (position, category, box, crowd) in enumerate(rows, start=1):
            file.write(
                f"{', ' if number > 1 else ''}{{{shapes[number % 64]}"
                f'"area": {0.6 * box[2] * box[3]:.4f}, "iscrowd": {int(crowd)}, "image_id": {position + 1}, '
                f'"bbox": {box}, "category_id": {category}, "id": {number}}}'
            )
        file.write("]}\n")


def write_images(scene: Scene, folder: Path) -> None:
    """One picture of noise for every size; the images are hard links to them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2)
    originals = {}
    for width, height in SIZES:
        originals[width, height] = folder / f".{width}x{height}.jpg"
        coarse = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)).resize((width, height))
        grain = rng.normal(0, 8, (height, width, 3))  # for files about as long as COCO's
        pixels = (np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(originals[width, height], quality=90)
    for number, (width, height) in enumerate(scene.sizes.tolist(), start=1):
        os.link(originals[width, height], folder / file_name(number))


def make_detections(scene: Scene, per_image: int = 100, skill: float = 0.7, seed: int = 0) -> list[dict[str, Any]]:
    """COCO results: boxes around the objects, as far as a detector of ``skill`` (0 to 1) sees them, and strays."""
    rng = np.random.default_rng([seed, 5])
    total = scene.images * per_image
    images = np.repeat(np.arange(scene.images), per_image)
    counts = np.bincount(scene.positions, minlength=scene.images)
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    slot = np.tile(np.arange(per_image), scene.images)
    real = (slot < 3 * counts[images]) & (rng.random(total) < skill)
    source = np.where(real, starts[images] + slot % np.maximum(counts[images], 1), 0)
    spread = rng.gamma(1.5, 0.06 / skill, total)[:, None] * np.tile(scene.boxes[source, 2:], 2)
    near = scene.boxes[source] + rng.normal(0, 1, (total, 4)) * spread
    sizes = scene.sizes[images]
    stray = np.concatenate([rng.random((total, 2)) * sizes * 0.8, rng.random((total, 2)) * sizes * 0.2], axis=1)
    boxes = np.where(real[:, None], near, stray)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
    palette = scene.categories[
        (starts[images] + rng.integers(0, 1 << 30, total) % np.maximum(counts[images], 1)).clip(
            max=len(scene.categories) - 1
        )
    ]
    other = np.where(rng.random(total) < 0.5, palette, rng.integers(1, scene.classes + 1, total))
    labels = np.where(real & (rng.random(total) < 0.9), scene.categories[source], other)
    quality = np.exp(-8 * spread.mean(axis=1) / np.maximum(scene.boxes[source, 2:].mean(axis=1), 1))
    scores = np.where(real, rng.beta(2, 2, total) * 0.5 + 0.5 * quality, rng.beta(1, 12, total)).astype(np.float32)
    columns = (images + 1, labels, boxes.round(4), scores.astype(np.float64))
    return [
        {"image_id": image, "category_id": label, "bbox": box, "score": score}
        for image, label, box, score in zip(*(column.tolist() for column in columns), strict=True)
    ]


def write_run(folder: Path, annotations: Path, detections: list[dict[str, Any]]) -> None:
    """The files of a run that the comparison reads."""
    from tood.data.split_table import SplitTable
    from tood.evaluation.coco_metrics import evaluate_detections
    from tood.evaluation.outputs import write_evaluation
    from tood.io.write import write_json, write_text, write_yaml

    result = evaluate_detections(SplitTable.of_json(annotations), detections)
    write_json(folder / "detections.json", detections, indent=None)
    write_evaluation(folder, result, split="val", checkpoint="made up", images_per_second=50.0, seconds=100.0)
    write_json(folder / "train.json", {"fingerprint": "0" * 16, "seconds": 3600.0, "epochs": 12, "steps": 88_716})
    write_yaml(folder / "config.yaml", {"run": folder.name, "method": {"name": "made up"}, "seed": 0})
    steps = range(50, 90_001, 50)
    rows = [f"{step},{1 + step // 7500},{step / 10},0.01,{1 + 50 / step},{1 + 50 / step},,,,50" for step in steps]
    columns = "step,epoch,time,lr,loss,loss_cls,val_AP,val_AP50,val_AP75,images_per_second"
    write_text(folder / "history.csv", "\n".join([columns, *rows]) + "\n")


def _numbers(scene: Scene) -> range:
    return range(1, scene.classes + 1)
