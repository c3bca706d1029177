"""The confusion matrix counts every object once, and every detection above the threshold once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tood.data.split_table import SplitTable
from tood.evaluation.confusion import confusion_matrix
from tood.evaluation.error_kinds import find_errors

BOXES = {"left": [0, 0, 40, 40], "right": [100, 100, 40, 40], "nowhere": [160, 0, 30, 30]}


def table_of(path: Path, *objects: tuple[int, str]) -> SplitTable:
    annotations = [
        {"id": n, "image_id": 1, "category_id": label, "bbox": BOXES[where], "area": 1600, "iscrowd": 0}
        for n, (label, where) in enumerate(objects, start=1)
    ]
    images = [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 200}]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return SplitTable.of_json(path)


def found(label: int, where: str, score: float) -> dict[str, Any]:
    return {"image_id": 1, "category_id": label, "bbox": BOXES[where], "score": score}


@pytest.mark.parametrize(
    ("detections", "expected"),
    [
        ([], [[0, 0, 1], [0, 0, 1], [0, 0, 0]]),
        ([found(1, "left", 0.9), found(2, "right", 0.9)], [[1, 0, 0], [0, 1, 0], [0, 0, 0]]),
        ([found(2, "left", 0.9)], [[0, 1, 0], [0, 0, 1], [0, 0, 0]]),
        ([found(2, "left", 0.9), found(1, "left", 0.5)], [[1, 0, 0], [0, 0, 1], [0, 1, 0]]),  # its own class first
        ([found(1, "nowhere", 0.9), found(1, "left", 0.2)], [[0, 0, 1], [0, 0, 1], [1, 0, 0]]),
    ],
)
def test_made_up_scenes(tmp_path: Path, detections: list[dict[str, Any]], expected: list[list[int]]) -> None:
    table = table_of(tmp_path / "a.json", (1, "left"), (2, "right"))
    assert confusion_matrix(find_errors(table, detections), 2, 0.3).tolist() == expected


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_every_object_and_every_detection_is_counted_once(make_scene: Callable[..., Any], threshold: float) -> None:
    scene = make_scene(3, images=40)
    errors = find_errors(scene.table, scene.detections)
    classes = len(scene.table.classes)
    found = confusion_matrix(errors, classes, threshold)
    real = ~errors.objects.crowd
    assert found[:-1].sum(axis=1).tolist() == np.bincount(errors.objects.labels[real], minlength=classes).tolist()
    kept = errors.counted & (errors.found.scores >= threshold)
    assert found[:, :-1].sum(axis=0).tolist() == np.bincount(errors.found.labels[kept], minlength=classes).tolist()
    if threshold == 0:
        assert np.trace(found[:-1, :-1]) == errors.correct.sum()
