"""Correct, redundant and erroneous boxes: by hand, and what must hold whatever the detections are."""

import json
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tood.data.split_table import SplitTable
from tood.evaluation.alignment_boxes import BoxCounts, assign_outcomes, count_boxes
from tood.io.errors import UserError


def annotations(folder: Path, objects: list[tuple[list[float], int, int]]) -> SplitTable:
    """Two images and two classes; objects are (bbox, category, iscrowd), all in image 1."""
    entries = [
        {"id": k, "image_id": 1, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
        for k, (box, category, crowd) in enumerate(objects, start=1)
    ]
    images = [{"id": k, "file_name": f"{k}.png", "width": 200, "height": 200} for k in (1, 2)]
    categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    path = folder / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": entries, "categories": categories}))
    return SplitTable.of_json(path)


def found(box: list[float], score: float, category: int = 3, image: int = 1) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def test_every_outcome_by_hand(tmp_path: Path) -> None:
    crowd = [100, 100, 80, 80]
    truth = annotations(tmp_path, [([0, 0, 10, 10], 3, 0), ([40, 0, 10, 10], 3, 0), (crowd, 3, 1)])
    detections = [
        found([0, 0, 10, 6], 0.6),  # IoU .6, but the object was taken by a surer one: redundant
        found([0, 0, 10, 9], 0.9),  # correct
        found([40, 0, 10, 4], 0.8),  # IoU .4: error
        found([40, 0, 10, 1], 0.7),  # IoU .1 is not above .1: elsewhere
        found([40, 0, 10, 5], 0.2),  # IoU .5, late: correct
        found([0, 0, 10, 10], 0.5, category=7),  # no object of its class: elsewhere
        found([0, 0, 10, 10], 0.5, image=2),  # none in its image: elsewhere
        found([120, 120, 30, 30], 0.4),  # inside the crowd
        found([175, 175, 20, 20], 0.3),  # a sixteenth of it inside the crowd: elsewhere
    ]
    assert count_boxes(truth, detections) == BoxCounts(correct=2, redundant=1, error=1, on_crowd=1, elsewhere=4)


def test_detection_takes_the_free_object_it_overlaps_most() -> None:
    overlaps = np.array([[0.6, 0.9], [0.7, 0.8], [0.6, 0.6]])
    assert assign_outcomes(overlaps, np.zeros(3, bool)) == BoxCounts(correct=2, redundant=1)


def test_detection_on_an_object_inside_a_crowd_is_correct_once() -> None:
    overlaps = np.array([[0.9], [0.9], [0.3]])
    assert assign_outcomes(overlaps, np.ones(3, bool)) == BoxCounts(correct=1, on_crowd=2)


def test_perfect_detector_has_every_object_correct(make_scene: Callable[..., Any]) -> None:
    scene = make_scene(3, images=30)
    truth = scene.table
    objects = [entry for entry in scene.annotations["annotations"] if not entry["iscrowd"]]
    perfect = [found(e["bbox"], 0.9, e["category_id"], e["image_id"]) for e in objects]
    assert count_boxes(truth, perfect) == BoxCounts(correct=len(objects))
    twice = count_boxes(truth, perfect * 2)
    assert twice.correct == len(objects)
    assert twice.redundant + twice.on_crowd == len(objects)
    assert count_boxes(truth, []) == BoxCounts()


def test_order_of_images_and_of_the_file_does_not_matter(make_scene: Callable[..., Any]) -> None:
    scene = make_scene(5, images=20)
    truth = scene.table
    counts = count_boxes(truth, scene.detections)
    assert min(astuple(counts)) > 0
    assert counts.detections == len(scene.detections)
    assert counts == count_boxes(truth, scene.detections[::-1])


@pytest.mark.parametrize(
    ("change", "message"), [({"image_id": 999}, "image_id 999"), ({"bbox": None}, "needs image_id")]
)
def test_foreign_or_broken_detections_are_refused(
    make_scene: Callable[..., Any], change: dict[str, Any], message: str
) -> None:
    scene = make_scene()
    broken = [{**scene.detections[0], **change}]
    with pytest.raises(UserError, match=f"run/detections.json.*{message}"):
        count_boxes(scene.table, broken, Path("run/detections.json"))


shapes = st.tuples(st.integers(0, 8), st.integers(0, 5))
overlap_tables = shapes.flatmap(lambda shape: arrays.arrays(np.float64, shape, elements=st.floats(0, 1)))


@given(overlap_tables, st.data())
@settings(deadline=None)
def test_what_holds_whatever_the_overlaps_are(overlaps: np.ndarray, data: st.DataObject) -> None:
    crowd = np.array(data.draw(st.lists(st.booleans(), min_size=len(overlaps), max_size=len(overlaps))), bool)
    counts = assign_outcomes(overlaps, crowd)
    assert counts.detections == len(overlaps)
    assert counts.correct <= overlaps.shape[1]
    assert counts.correct + counts.redundant <= np.count_nonzero((overlaps >= 0.5).any(axis=1))
    if counts.redundant:
        assert counts.correct
    assert counts.on_crowd <= crowd.sum()
