"""Exports of annotation tools, written by hand after their documented formats, and the truth about them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

SIZE = (64, 48)
BOXES = (("cat", (8, 6, 24, 30)), ("dog", (20, 10, 60, 40)))
"""Class and corners (x1, y1, x2, y2) px of the objects of every picture."""
CLASSES = tuple(name for name, _ in BOXES)
HASH = "3b1c9a0f5d7e42868c1f0a9b3d5e7f{:02x}"


@dataclass(frozen=True)
class Export:
    """A folder as a tool leaves it."""

    root: Path

    def picture(self, path: str) -> Path:
        """A picture of its own content."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(crc32(path.encode())).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
        Image.fromarray(noise).save(file)
        return file

    def pictures(self, *paths: str) -> None:
        for path in paths:
            self.picture(path)

    def text(self, path: str, content: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def xml(self, path: str, filename: str) -> None:
        """As LabelImg, CVAT and Roboflow write it."""
        objects = "".join(
            f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
            f"<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for name, (x1, y1, x2, y2) in BOXES
        )
        self.text(
            path,
            f"<annotation><folder>any</folder><filename>{filename}</filename><path>C:\\any\\{filename}</path>"
            f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>{objects}</annotation>",
        )

    def rows(self, path: str, rows: str | None = None) -> None:
        """A label file of YOLO."""
        self.text(path, rows or "".join(f"{label} {yolo_box(box)}\n" for label, (_, box) in enumerate(BOXES)))

    def coco(
        self, path: str, names: Sequence[str], categories: Sequence[dict] | None = None, first_id: int = 1
    ) -> None:
        """A COCO file of pictures with ``names``; classes have the ids from ``first_id`` on."""
        rows = categories or [
            {"id": label, "name": name, "supercategory": ""} for label, name in enumerate(CLASSES, start=first_id)
        ]
        annotations = [
            {
                "id": len(BOXES) * image + label,
                "image_id": image,
                "category_id": label + first_id,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                "segmentation": [],
            }
            for image in range(len(names))
            for label, (_, (x1, y1, x2, y2)) in enumerate(BOXES)
        ]
        images = [
            {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for number, name in enumerate(names)
        ]
        self.text(path, json.dumps({"info": {}, "images": images, "categories": rows, "annotations": annotations}))


def yolo_box(box: tuple[int, int, int, int]) -> str:
    x1, y1, x2, y2 = box
    width, height = SIZE
    values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return " ".join(f"{value:.6f}" for value in values)


def numbered(count: int, pattern: str = "img_{}.png", first: int = 0) -> list[str]:
    return [pattern.format(number) for number in range(first, first + count)]


def roboflow_names(count: int, first: int = 0) -> list[str]:
    return [f"photo-{number}_jpg.rf.{HASH.format(number)}.jpg" for number in range(first, first + count)]
