"""Detections as annotations that labelling tools read, so that people correct boxes instead of drawing them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from xml.etree import ElementTree

from tood.io.write import write_json, write_text, write_yaml

LabelFormat = Literal["coco", "yolo", "voc", "label-studio"]
_DIGITS = 6  # of YOLO's shares


@dataclass(frozen=True)
class Labelled:
    """A picture and the boxes in it; (left, top, right, bottom) px."""

    file_name: str
    """Relative to the folder of pictures, with forward slashes."""
    width: int
    height: int
    boxes: Sequence[tuple[float, float, float, float]]
    labels: Sequence[int]
    """Positions in the list of classes."""
    scores: Sequence[float]


def write_labels(kind: LabelFormat, folder: Path, pictures: Sequence[Labelled], classes: Sequence[str]) -> Path:
    """Write the annotations of ``pictures`` below ``folder``; returns the file or folder to import.

    COCO: ``annotations.json``. YOLO: ``labels/<picture>.txt`` and ``data.yaml``. VOC: ``Annotations/<picture>.xml``.
    Label Studio: ``tasks.json``, with boxes as predictions, and pictures below its local files. Pictures without a box
    have an annotation file too: they are done as much as the others.
    """
    match kind:
        case "coco":
            target = folder / "annotations.json"
            write_json(target, _coco(pictures, classes))
        case "yolo":
            target = folder
            for picture in pictures:
                write_text(_beside(folder / "labels", picture, ".txt"), _yolo(picture))
            write_yaml(folder / "data.yaml", {"path": ".", "train": "images", "names": dict(enumerate(classes))})
        case "voc":
            target = folder / "Annotations"
            for picture in pictures:
                write_text(_beside(target, picture, ".xml"), _voc(picture, classes))
        case "label-studio":
            target = folder / "tasks.json"
            write_json(target, [_task(picture, classes) for picture in pictures])
    return target


def _beside(folder: Path, picture: Labelled, suffix: str) -> Path:
    return folder / PurePosixPath(picture.file_name).with_suffix(suffix)


def _coco(pictures: Sequence[Labelled], classes: Sequence[str]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, start=1):
        images.append({"id": number, "file_name": picture.file_name, "width": picture.width, "height": picture.height})
        for (left, top, right, bottom), label, score in _boxes(picture):
            box = [round(value, 2) for value in (left, top, right - left, bottom - top)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": 0,
                    "score": round(score, 4),
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _yolo(picture: Labelled) -> str:
    lines = []
    for (left, top, right, bottom), label, _ in _boxes(picture):
        shares = (
            (left + right) / 2 / picture.width,
            (top + bottom) / 2 / picture.height,
            (right - left) / picture.width,
            (bottom - top) / picture.height,
        )
        lines.append(" ".join([str(label), *(f"{share:.{_DIGITS}f}" for share in shares)]) + "\n")
    return "".join(lines)


def _voc(picture: Labelled, classes: Sequence[str]) -> str:
    """Corners as labelling tools write them, without a shift by one."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = PurePosixPath(picture.file_name).name
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", picture.width), ("height", picture.height), ("depth", 3)):
        ElementTree.SubElement(size, name).text = str(value)
    for (left, top, right, bottom), label, _ in _boxes(picture):
        found = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(found, "name").text = classes[label]
        ElementTree.SubElement(found, "difficult").text = "0"
        box = ElementTree.SubElement(found, "bndbox")
        corners = {
            "xmin": min(round(left), picture.width - 1),
            "ymin": min(round(top), picture.height - 1),
            "xmax": max(round(left) + 1, round(right)),
            "ymax": max(round(top) + 1, round(bottom)),
        }
        for name, value in corners.items():
            ElementTree.SubElement(box, name).text = str(value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _task(picture: Labelled, classes: Sequence[str]) -> dict[str, Any]:
    """Boxes in percent; the names are those of Label Studio's template for object detection."""
    results = []
    for number, ((left, top, right, bottom), label, score) in enumerate(_boxes(picture)):
        results.append(
            {
                "id": hashlib.sha256(f"{picture.file_name} {number}".encode()).hexdigest()[:10],
                "type": "rectanglelabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": picture.width,
                "original_height": picture.height,
                "image_rotation": 0,
                "score": round(score, 4),
                "value": {
                    "rotation": 0,
                    "x": round(100 * left / picture.width, 4),
                    "y": round(100 * top / picture.height, 4),
                    "width": round(100 * (right - left) / picture.width, 4),
                    "height": round(100 * (bottom - top) / picture.height, 4),
                    "rectanglelabels": [classes[label]],
                },
            }
        )
    whole = min(picture.scores, default=0.0)
    image = f"/data/local-files/?d={picture.file_name}"
    return {"data": {"image": image}, "predictions": [{"score": round(whole, 4), "result": results}]}


def _boxes(picture: Labelled) -> list[tuple[tuple[float, float, float, float], int, float]]:
    """Clipped to the picture; those that lie outside it are left out."""
    kept = []
    for (left, top, right, bottom), label, score in zip(picture.boxes, picture.labels, picture.scores, strict=True):
        left, right = max(0.0, left), min(float(picture.width), right)
        top, bottom = max(0.0, top), min(float(picture.height), bottom)
        if right > left and bottom > top:
            kept.append(((left, top, right, bottom), label, score))
    return kept
