"""Matching, tables and the twelve numbers are pycocotools' own, bit for bit, whatever the annotations are.

One difference is meant: in pycocotools an object whose annotation has the id 0 is never found. It keeps for each
detection the id of the object that it is matched with, and 0 for none. Here ids are names.
"""

import contextlib
import copy
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tood.data.split_table import SplitTable
from tood.evaluation.coco_metrics import STATS, coco_tables, evaluate_detections

CATEGORIES = (4, 2, 9)
EDGES = (0.5, 8.0, 16.0, 31.999, 32.0, 32.001, 64.0, 96.0, 96.001, 200.0)

lengths = st.one_of(st.sampled_from(EDGES), st.floats(0.5, 250, allow_nan=False))
places = st.one_of(st.sampled_from((0.0, 8.0, 16.0)), st.floats(-20, 60, allow_nan=False))
boxes = st.tuples(places, places, lengths, lengths).map(list)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A few images that may be empty, objects and detections that overlap, tie and stand at the limits of areas."""
    image_ids = draw(st.lists(st.sampled_from((1, 3, 7, 2**40)), min_size=1, max_size=4, unique=True))
    somewhere, some_class = st.sampled_from(image_ids), st.sampled_from(CATEGORIES)
    objects = [
        {"id": number, "image_id": draw(somewhere), "category_id": draw(some_class), "bbox": box}
        | draw(st.sampled_from(({}, {"iscrowd": 0}, {"iscrowd": 1}, {"ignore": 1}, {"iscrowd": 1, "ignore": 0})))
        | draw(st.sampled_from(({}, {"area": box[2] * box[3]}, {"area": 32.0**2}, {"area": 96.0**2}, {"area": 0.0})))
        for number, box in enumerate(draw(st.lists(boxes, max_size=8)), start=1)
    ]
    near = st.sampled_from([one["bbox"] for one in objects]) if objects else boxes
    shifts = st.sampled_from((0.0, 0.0, 0.5, 1.0, -1.0, 4.0))
    detections = [
        {
            "image_id": draw(somewhere),
            "category_id": draw(some_class),
            "bbox": [value + draw(shifts) if k < 2 else max(value + draw(shifts), 0.5) for k, value in enumerate(box)],
            "score": draw(st.sampled_from((0.0, 0.25, 0.5, 0.5000001, 1.0, -1.0))),
        }
        for box in draw(st.lists(st.one_of(near, boxes), max_size=25))
    ]
    truth = {
        "images": [{"id": number} for number in image_ids],
        "categories": [{"id": number, "name": str(number)} for number in CATEGORIES],
        "annotations": objects,
    }
    return truth, detections


def loaded(content: dict[str, Any]) -> SplitTable:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "truth.json"
        path.write_text(json.dumps(content))
        return SplitTable.of_json(path)


def reference(content: dict[str, Any], detections: list[dict[str, Any]], limits: tuple[int, int, int]) -> COCOeval:
    """pycocotools on the same; where a file leaves fields out, it wants them."""
    truth, results = COCO(), COCO()
    objects = [
        {"iscrowd": 0, "area": one["bbox"][2] * one["bbox"][3], **copy.deepcopy(one)} for one in content["annotations"]
    ]
    found = [
        {**copy.deepcopy(one), "id": number, "area": one["bbox"][2] * one["bbox"][3], "iscrowd": 0}
        for number, one in enumerate(detections, start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        for coco, entries in ((truth, objects), (results, found)):
            coco.dataset = {**content, "annotations": entries}
            coco.createIndex()
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.params.maxDets = list(limits)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def compare_all(
    content: dict[str, Any], detections: list[dict[str, Any]], limits: tuple[int, int, int] = (1, 10, 100)
) -> None:
    truth = loaded(content)
    expected = reference(content, detections, limits)
    tables = coco_tables(truth, detections, max_detections=limits)
    for ours, theirs in ((tables.precision, expected.eval["precision"]), (tables.recall, expected.eval["recall"])):
        np.testing.assert_array_equal(np.nan_to_num(ours, nan=-1.0), theirs)
    numbers = [-1.0 if value is None else value for value in tables.stats.values()]
    assert dict(zip(STATS, numbers, strict=True)) == dict(zip(STATS, expected.stats.tolist(), strict=True))
    compare_records(evaluate_detections(truth, detections, max_detections=limits).matches, expected)


def compare_records(records: Any, expected: COCOeval) -> None:
    """What became of each detection of all sizes, in the order in which ``accumulate`` puts them."""
    params = expected.params
    assert records.image_ids.tolist() == params.imgIds
    for c in range(len(params.catIds)):
        start = c * len(params.areaRng) * len(params.imgIds)
        entries = expected.evalImgs[start : start + len(params.imgIds)]
        objects = [0 if entry is None else int(np.sum(entry["gtIgnore"] == 0)) for entry in entries]
        assert records.objects[c].tolist() == objects
        found = [(place, entry) for place, entry in enumerate(entries) if entry is not None]
        part = slice(records.offsets[c], records.offsets[c + 1])
        scores = np.concatenate([[], *(entry["dtScores"] for _, entry in found)])
        order = np.argsort(-scores, kind="mergesort")
        images = np.concatenate([[], *([place] * len(entry["dtScores"]) for place, entry in found)])
        assert records.images[part].tolist() == images[order].tolist()
        assert records.scores[part].tolist() == scores[order].tolist()
        if found:
            matched = np.concatenate([entry["dtMatches"] != 0 for _, entry in found], axis=1)[:, order]
            ignored = np.concatenate([entry["dtIgnore"] for _, entry in found], axis=1)[:, order].astype(bool)
            np.testing.assert_array_equal(records.true_positive[:, part], matched & ~ignored)
            np.testing.assert_array_equal(records.ignored[:, part], ignored)


@settings(max_examples=150, deadline=None)
@given(scenes(), st.sampled_from(((1, 10, 100), (1, 2, 3), (2, 5, 300))))
def test_any_scene(scene: tuple[dict[str, Any], list[dict[str, Any]]], limits: tuple[int, int, int]) -> None:
    compare_all(*scene, limits)


@pytest.mark.parametrize("mirrored", [False, True])
def test_of_equal_overlaps_the_later_object_is_taken(mirrored: bool) -> None:
    """The surer detection lies midway between two objects, the other on one of them: which one is left matters."""
    places = [[0, 0, 20, 10], [10, 0, 20, 10]][:: -1 if mirrored else 1]
    objects = [{"id": k, "image_id": 1, "category_id": 2, "bbox": box} for k, box in enumerate(places, start=1)]
    found = [([5, 0, 20, 10], 0.9), ([0, 0, 20, 10], 0.8)]
    detections = [{"image_id": 1, "category_id": 2, "bbox": box, "score": score} for box, score in found]
    content = {"images": [{"id": 1}], "categories": [{"id": 2, "name": "two"}], "annotations": objects}
    compare_all(content, detections)
    hits = evaluate_detections(loaded(content), detections).matches.true_positive[0]
    assert hits.tolist() == [True, not mirrored]


@pytest.mark.parametrize("seed", range(3))
def test_crowded_images_with_more_detections_than_count(seed: int) -> None:
    """150 detections of two classes on 40 objects that overlap each other, of all sizes, with equal scores."""
    rng = np.random.default_rng(seed)
    corners, sides = rng.integers(0, 40, (40, 2)), rng.choice([10, 32, 60, 96, 150], (40, 2))
    objects = [
        {
            "id": number,
            "image_id": int(rng.integers(1, 4)),
            "category_id": int(rng.choice([2, 4])),
            "bbox": [*corner, *side],
            "area": float(side.prod() * rng.choice([1, 0.8])),
            "iscrowd": int(rng.random() < 0.15),
        }
        for number, (corner, side) in enumerate(zip(corners.tolist(), sides, strict=True), start=1)
    ]
    objects = json.loads(json.dumps(objects, default=lambda value: value.item()))
    detections = []
    for _ in range(450):
        source = objects[int(rng.integers(len(objects)))]
        box = np.asarray(source["bbox"]) + rng.integers(-4, 5, 4)
        detections.append(
            {
                "image_id": source["image_id"],
                "category_id": source["category_id"] if rng.random() < 0.9 else 9,
                "bbox": np.maximum(box, [-9, -9, 1, 1]).tolist(),
                "score": float(rng.integers(0, 40) / 40),
            }
        )
    images = [{"id": number} for number in (1, 2, 3, 4)]
    categories = [{"id": number, "name": str(number)} for number in CATEGORIES]
    content = {"images": images, "categories": categories, "annotations": objects}
    compare_all(content, detections)
    compare_all(content, detections, (1, 7, 20))


def renumbered(content: dict[str, Any], first: int) -> dict[str, Any]:
    """The same with other ids of the annotations."""
    annotations = [{**one, "id": number} for number, one in enumerate(content["annotations"], start=first)]
    return {**content, "annotations": annotations}


def test_an_object_with_the_id_0_counts_here_and_not_in_pycocotools() -> None:
    places = [[0.0, 0.0, 40.0, 40.0], [100.0, 0.0, 40.0, 40.0]]
    objects = [{"id": number, "image_id": 1, "category_id": 2, "bbox": box} for number, box in enumerate(places)]
    detections = [{"image_id": 1, "category_id": 2, "bbox": box, "score": 0.9} for box in places]
    content = {"images": [{"id": 1}], "categories": [{"id": 2, "name": "two"}], "annotations": objects}
    theirs = dict(zip(STATS, reference(content, detections, (1, 10, 100)).stats.tolist(), strict=True))
    ours = coco_tables(loaded(content), detections, max_detections=(1, 10, 100)).stats
    assert (theirs["AR100"], ours["AR100"]) == (0.5, 1.0), "both objects are found"
    assert theirs["AP50"] is not None
    assert theirs["AP50"] < 0.3
    assert ours["AP50"] == 1.0
    shifted = reference(renumbered(content, 1), detections, (1, 10, 100)).stats.tolist()
    assert [-1.0 if one is None else one for one in ours.values()] == shifted


@settings(max_examples=30, deadline=None)
@given(scenes(), st.sampled_from((0, -3)))
def test_numbers_do_not_depend_on_the_ids_of_objects(
    scene: tuple[dict[str, Any], list[dict[str, Any]]], first: int
) -> None:
    content, detections = scene
    ours = coco_tables(loaded(renumbered(content, first)), detections, max_detections=(1, 10, 100))
    theirs = reference(renumbered(content, 1), detections, (1, 10, 100))
    assert [-1.0 if one is None else one for one in ours.stats.values()] == theirs.stats.tolist()


@settings(max_examples=30, deadline=None)
@given(scenes(), st.sampled_from((-100, 2**40)))
def test_ids_below_0_and_far_above_make_no_difference(
    scene: tuple[dict[str, Any], list[dict[str, Any]]], first: int
) -> None:
    content, detections = scene
    compare_all(renumbered(content, first), detections)
