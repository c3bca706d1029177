"""Detections written as annotations come back through ``tood init`` as they were."""

import json
from pathlib import Path

import pytest

from tood.data.formats.label_files import LabelFormat, Labelled, write_labels

from .conftest import Init
from .exports import CLASSES, Export

BOXES = ((4.0, 5.0, 20.0, 30.0), (25.0, 10.0, 40.0, 22.0))


def pictures(export: Export, folder: str) -> list[Labelled]:
    """Ten of them with two boxes each, one of which sticks out."""
    names = [f"{number}.jpg" for number in range(10)]
    export.pictures(*(f"{folder}{name}" for name in names))
    boxes = (BOXES[0], (25.0, 10.0, 40.0, 2200.0))
    from PIL import Image

    found = []
    for name in names:
        with Image.open(export.root / f"{folder}{name}") as picture:
            found.append(Labelled(name, *picture.size, boxes, (0, 1), (0.9, 0.5)))
    return found


@pytest.mark.parametrize(("kind", "folder"), [("coco", ""), ("yolo", "images/"), ("voc", "JPEGImages/")])
def test_they_are_recognised_with_their_boxes_and_classes(
    kind: LabelFormat, folder: str, export: Export, init: Init
) -> None:
    given = pictures(export, folder)
    write_labels(kind, export.root, given, CLASSES)
    found = init()
    assert found.ok
    assert found.config.format == kind
    assert sum(found.pictures.values()) == 10
    names = {category.id: category.name for category in found.dataset.categories}
    bottom = given[0].height
    for split in found.dataset.splits:
        for box in split.boxes:
            left, top, width, height = box.bbox
            first = names[box.category_id] == CLASSES[0]
            expected = BOXES[0] if first else (25.0, 10.0, 40.0, float(bottom))
            assert (left, top, left + width, top + height) == pytest.approx(expected, abs=0.02)


def test_label_studio_gets_predictions_in_percent(tmp_path: Path) -> None:
    picture = Labelled("a/b.jpg", 200, 100, ((20.0, 10.0, 120.0, 60.0), (300.0, 0.0, 310.0, 5.0)), (1, 0), (0.75, 0.5))
    target = write_labels("label-studio", tmp_path, [picture, Labelled("c.jpg", 9, 9, (), (), ())], ("cat", "dog"))
    first, second = json.loads(target.read_text())
    assert first["data"] == {"image": "/data/local-files/?d=a/b.jpg"}
    (result,) = first["predictions"][0]["result"]
    assert result["value"] == {
        "rotation": 0, "x": 10.0, "y": 10.0, "width": 50.0, "height": 50.0, "rectanglelabels": ["dog"],
    }  # fmt: skip
    assert (result["original_width"], result["original_height"], result["score"]) == (200, 100, 0.75)
    assert second["predictions"][0]["result"] == []


def test_a_picture_without_objects_has_an_empty_file(tmp_path: Path) -> None:
    empty = Labelled("sub/a.jpg", 50, 40, (), (), ())
    write_labels("yolo", tmp_path, [empty], CLASSES)
    assert (tmp_path / "labels/sub/a.txt").read_text() == ""
    write_labels("voc", tmp_path, [empty], CLASSES)
    assert "<object>" not in (tmp_path / "Annotations/sub/a.xml").read_text()
