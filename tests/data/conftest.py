"""Tiny made-up data sets in every layout, written as a user would have them."""

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tood.io.digests import file_digest

ImageMaker = Callable[..., Path]


@pytest.fixture
def write_manifest() -> Callable[[Path, Path, Iterable[str]], None]:
    """Write a manifest of files below a folder."""

    def write(file: Path, folder: Path, paths: Iterable[str]) -> None:
        rows = [[path, (folder / path).stat().st_size, file_digest(folder / path)] for path in sorted(paths)]
        with file.open("w", newline="") as handle:
            csv.writer(handle).writerows([["path", "size", "sha256"], *rows])

    return write


@pytest.fixture
def make_image() -> ImageMaker:
    """Write a picture of a size (w, h), every one with another content."""
    count = 0

    def make(path: Path, size: tuple[int, int] = (64, 48), *, exif: int = 0) -> Path:
        nonlocal count
        count += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(count).integers(0, 256, (size[1], size[0], 3), np.uint8)
        image = Image.fromarray(noise)
        tags = image.getexif()
        if exif:
            tags[0x0112] = exif
        image.save(path, exif=tags)
        return path

    return make


def voc_xml(
    objects: list[tuple[str, tuple[float, ...]]], size: tuple[int, int] | None = (64, 48), extra: str = ""
) -> str:
    """A VOC annotation with objects (class, (xmin, ymin, xmax, ymax))."""
    width, height = size or (0, 0)
    body = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box in objects
    )
    return (
        f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        f"{body}{extra}</annotation>"
    )


@pytest.fixture
def voc_root(tmp_path: Path, make_image: ImageMaker) -> Path:
    """Four pictures a..d: train a, b and val c, d; of b's two boxes one has no area."""
    root = tmp_path / "voc"
    objects = {
        "a": [("cat", (4, 5, 20, 30))],
        "b": [("dog", (1, 1, 10, 10)), ("cat", (7, 7, 7, 7))],
        "c": [("dog", (10, 10, 60, 40)), ("cat", (2, 2, 8, 9))],
        "d": [],
    }
    for stem, boxes in objects.items():
        make_image(root / "JPEGImages" / f"{stem}.jpg")
        path = root / "Annotations" / f"{stem}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(voc_xml(boxes))
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("b\na\n")
    (lists / "val.txt").write_text("c\nd\n")
    return root


@pytest.fixture
def yolo_root(tmp_path: Path, make_image: ImageMaker) -> Path:
    """images/{train,val} with labels beside them; val/d has no label file."""
    root = tmp_path / "yolo"
    labels = {
        "train/a": "0 0.5 0.5 0.25 0.5\n",
        "train/b": "1 0.25 0.25 0.5 0.5\n0 0.5 0.5 0 0.1\n",
        "val/c": "1 0.1 0.1 0.1 0.2 0.3 0.2 0.3 0.1\n",
        "val/d": None,
    }
    for name, text in labels.items():
        make_image(root / "images" / f"{name}.png")
        if text is not None:
            path = root / "labels" / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (root / "data.yaml").write_text("names: {0: cat, 1: dog}\nnc: 2\n")
    return root


def coco_content() -> dict:
    """A COCO json of two images; ids with gaps, one crowd region."""
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 64, "height": 48},
            {"id": 3, "file_name": "b.jpg", "width": 64, "height": 48},
        ],
        "annotations": [
            {
                "id": 20,
                "image_id": 7,
                "category_id": 5,
                "bbox": [1.5, 2, 10, 20],
                "area": 123.5,
                "iscrowd": 0,
            },
            {"id": 21, "image_id": 7, "category_id": 2, "bbox": [0, 0, 60, 40], "area": 900.0, "iscrowd": 1},
            {"id": 30, "image_id": 3, "category_id": 2, "bbox": [5, 5, 6, 7]},
        ],
        "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}],
    }


@pytest.fixture
def coco_root(tmp_path: Path, make_image: ImageMaker) -> Path:
    """train and val with the same annotations, on pictures of their own."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        for name in ("a.jpg", "b.jpg"):
            make_image(root / split / name)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(coco_content()))
    return root
