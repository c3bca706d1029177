"""The targets of training as flat arrays, and what is left out of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tood.data.prepared import PreparedSplit
from tood.data.split_table import SplitTable
from tood.data.training_targets import TrainingTargets
from tood.io.errors import UserError

CLASSES = ("cat", "dog")


def box(image: int, category: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": category,
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "iscrowd": 0,
        **more,
    }


def content() -> dict[str, Any]:
    return {
        "images": [
            {"id": 40, "file_name": "d.jpg", "width": 20, "height": 60},
            {"id": 7, "file_name": "a.jpg", "width": 100, "height": 80},
            {"id": 12, "file_name": "b.jpg", "width": 64, "height": 48},
            {"id": 30, "file_name": "c.jpg", "width": 50, "height": 50},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            box(40, 18, [0, 0, 10, 10]),
            box(7, 18, [5, 6, 20, 30]),
            box(7, 3, [90, 70, 30, 30]),  # sticks out: kept as annotated
            box(7, 3, [1, 1, 50, 50], iscrowd=1),
            box(7, 3, [1, 1, 50, 50], ignore=1),
            box(7, 3, [1, 1, 0.9, 50]),
            box(7, 3, [1, 1, 50, 0.9]),
            box(7, 3, [1, 1, 50, 50], area=0),
            box(7, 3, [100, 10, 20, 20]),  # touches the image from outside
            box(7, 3, [-30, 10, 20, 20]),
            box(7, 3, [2, 3, 1, 1]),
            box(12, 3, [1, 1, 20, 20], iscrowd=1),
        ],
    }


def split(tmp_path: Path, value: Any) -> PreparedSplit:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(value))
    return PreparedSplit("train", path, tmp_path, 0, 0, "")


def targets_of(split: PreparedSplit, *, drop_empty: bool = False) -> TrainingTargets:
    return TrainingTargets.of(SplitTable.of_split(split, CLASSES), drop_empty=drop_empty)


def test_targets_after_the_training_filter(tmp_path: Path) -> None:
    targets = targets_of(split(tmp_path, content()))
    assert targets.image_ids.tolist() == [7, 12, 30, 40]
    assert targets.file_names.tolist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert targets.widths.tolist() == [100, 64, 50, 20]
    assert targets.heights.tolist() == [80, 48, 50, 60]
    assert targets.category_ids == (3, 18)
    assert targets.box_offsets.tolist() == [0, 3, 3, 3, 4]
    boxes, labels = targets.of_image(0)
    assert boxes.tolist() == [[5, 6, 25, 36], [90, 70, 120, 100], [2, 3, 3, 4]]
    assert labels.tolist() == [1, 0, 0]
    assert boxes.dtype == np.float32
    assert targets.of_image(1)[0].shape == (0, 4)
    assert targets.of_image(3)[1].tolist() == [1]


def test_images_without_annotations_can_be_dropped(tmp_path: Path) -> None:
    targets = targets_of(split(tmp_path, content()), drop_empty=True)
    # 30 has no annotation and 40 is too narrow; 12 has a crowd region only, which counts as one.
    assert targets.image_ids.tolist() == [7, 12]
    assert targets.box_offsets.tolist() == [0, 3, 3]


def test_large_ids_are_told_apart(tmp_path: Path) -> None:
    ids = (2**60, 2**60 + 1)
    images = [{"id": k, "file_name": f"{k}.jpg", "width": 9, "height": 9} for k in ids]
    value = content() | {"images": images, "annotations": [box(ids[1], 3, [1, 2, 3, 4])]}
    assert targets_of(split(tmp_path, value)).box_offsets.tolist() == [0, 0, 1]


def test_set_without_any_box(tmp_path: Path) -> None:
    targets = targets_of(split(tmp_path, content() | {"annotations": []}))
    assert len(targets) == 4
    assert targets.boxes.shape == (0, 4)
    assert targets.box_offsets.tolist() == [0, 0, 0, 0, 0]
    nothing = targets_of(split(tmp_path, content() | {"annotations": []}), drop_empty=True)
    assert len(nothing) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": [{"image_id": 7}]}, "not a complete COCO file"),
        ({"annotations": [box(7, 3, [1, 2, 3, 4]) | {"bbox": [1, 2, 3], "area": 1}]}, "not a complete COCO"),
        ({"images": [{"id": "x"}]}, "not a complete COCO file"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}]}, "image 7 needs a file_name, width and height"),
        ({"images": [{"id": 2**70}]}, "not a complete COCO file"),
        ({"categories": []}, "has no categories"),
        ({"categories": [{"id": 3, "name": n} for n in CLASSES]}, "a category id occurs twice"),
        ({"categories": [{"id": 3, "name": "cat"}]}, "has the categories cat, but .* cat, dog"),
        ({"images": [{"id": 1, "file_name": n, "width": 9, "height": 9} for n in "ab"]}, "occurs twice"),
    ],
)
def test_file_that_does_not_hold_together_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"train.json.*{message}"):
        targets_of(split(tmp_path, content() | change))
