"""What ``tood predict`` draws and writes for each picture and video."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from torch import Tensor

from tood.data.box_drawing import draw_detections
from tood.data.formats.label_files import LabelFormat, Labelled
from tood.detection.postprocess import Detections
from tood.evaluation.detections import as_coco_results
from tood.io.write import atomic_path, write_with


@dataclass(frozen=True)
class Outputs:
    """What is written besides pictures and ``detections.json``."""

    labels: LabelFormat | None = None
    """Annotations of the boxes that are drawn, for a labelling tool, in ``labels/<format>``."""
    crops: bool = False
    """The part of the picture in each of these boxes, in ``crops/<label>-<class>``."""


class CocoFile:
    """All detections in the form of a COCO annotation file, with scores."""

    def __init__(self, classes: Sequence[str], category_ids: Sequence[int]) -> None:
        self._category_ids = category_ids
        self._categories = [{"id": number, "name": name} for number, name in zip(category_ids, classes, strict=True)]
        self.images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, image_id: int, name: Path, size: tuple[int, int], found: Detections, **more: Any) -> None:
        """``size`` is width and height px; ``more`` are further fields of the image."""
        width, height = size
        self.images.append({"id": image_id, "file_name": name.as_posix(), "width": width, "height": height, **more})
        self._annotations += as_coco_results([found], [image_id], self._category_ids)

    def content(self) -> dict[str, Any]:
        return {"images": self.images, "annotations": self._annotations, "categories": self._categories}


def drawn_boxes(name: Path, size: tuple[int, int], found: Detections, threshold: float) -> Labelled:
    """The boxes that score at least ``threshold``."""
    kept = found.scores >= threshold
    boxes = [(left, top, right, bottom) for left, top, right, bottom in found.boxes[kept].tolist()]
    return Labelled(name.as_posix(), *size, boxes, found.labels[kept].tolist(), found.scores[kept].tolist())


def drawn(picture: Any, shown: Labelled, classes: Sequence[str]) -> Image.Image:
    """A picture, one of Pillow's or (3,H,W) uint8, with boxes and captions."""
    return draw_detections(picture, shown.boxes, shown.labels, shown.scores, classes)


def write_picture(target: Path, picture: Tensor, shown: Labelled, classes: Sequence[str]) -> None:
    """As PNG."""
    with atomic_path(target) as path:
        drawn(picture, shown, classes).save(path, format="PNG")


def write_crops(folder: Path, picture: Tensor, shown: Labelled, classes: Sequence[str]) -> None:
    """One PNG for each box that covers a pixel: ``<label>-<class>/<picture>-<number>.png``."""
    height, width = picture.shape[-2:]
    for number, ((left, top, right, bottom), label) in enumerate(zip(shown.boxes, shown.labels, strict=True), start=1):
        x1, y1, x2, y2 = max(0, int(left)), max(0, int(top)), min(width, ceil(right)), min(height, ceil(bottom))
        if x2 <= x1 or y2 <= y1:
            continue
        name = PurePosixPath(shown.file_name)
        target = folder / folder_of(label, classes) / name.with_name(f"{name.name}-{number}.png")
        crop = Image.fromarray(picture[:, y1:y2, x1:x2].permute(1, 2, 0).numpy())
        write_with(target, lambda path, crop=crop: crop.save(path, format="PNG"))  # type: ignore[misc]


def folder_of(label: int, classes: Sequence[str]) -> str:
    """A name that is a folder's whatever the class is called."""
    plain = re.sub(r"[^\w .-]", "_", classes[label])[:80]
    return f"{label}-{plain}".rstrip(". ")
