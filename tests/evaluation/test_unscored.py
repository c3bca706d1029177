"""Foreseeing that no AP is defined, held against evaluation itself and pycocotools."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from tood.data.counted_objects import ALL_AREAS, counted_objects
from tood.data.findings import Findings
from tood.data.formats.records import BoxRecord, ImageRecord, RawSplit
from tood.data.split_table import SplitTable
from tood.data.unscored import find_unscored, unscored
from tood.evaluation.coco_metrics import coco_tables, evaluate_detections

OBJECT = {"image_id": 1, "category_id": 2, "bbox": [5.0, 5.0, 20.0, 20.0], "area": 400.0, "iscrowd": 0}
CASES: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "no objects": ([], False),
    "an object": ([OBJECT], True),
    "crowds only": ([{**OBJECT, "iscrowd": 1}] * 2, False),
    "ignored only": ([{**OBJECT, "ignore": 1}] * 2, True),
    "ignored crowds only": ([{**OBJECT, "iscrowd": 1, "ignore": 1}], False),
    "a crowd and an object": ([{**OBJECT, "iscrowd": 1}, OBJECT], True),
    "areas too large": ([{**OBJECT, "area": 1.1e10}], False),
    "the largest area": ([{**OBJECT, "area": 1e10}], True),
    "area zero": ([{**OBJECT, "area": 0.0}], True),
    "negative area": ([{**OBJECT, "area": -1.0}], False),
    "no area given": ([{key: value for key, value in OBJECT.items() if key != "area"}], True),
    "of an unknown image": ([{**OBJECT, "image_id": 9}], False),
    "of an unknown class": ([{**OBJECT, "category_id": 9}], False),
}


def table_of(folder: Path, annotations: list[dict[str, Any]]) -> SplitTable:
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 99, "height": 99}],
        "annotations": [{**one, "id": number} for number, one in enumerate(annotations, start=1)],
        "categories": [{"id": 2, "name": "cat"}, {"id": 3, "name": "dog"}],
    }
    (folder / "val.json").write_text(json.dumps(content))
    return SplitTable.of_json(folder / "val.json")


@pytest.mark.parametrize("case", CASES)
def test_a_split_is_unscored_where_evaluation_finds_no_ap(tmp_path: Path, case: str) -> None:
    annotations, scored = CASES[case]
    table = table_of(tmp_path, annotations)
    found = [{"image_id": 1, "category_id": 2, "bbox": [5, 5, 20, 20], "score": 0.9}]
    assert (evaluate_detections(table, found).stats["AP"] is not None) == scored
    assert (unscored(table) == "") == scored
    assert (counted_objects(table).sum() > 0) == scored


def test_classes_with_counted_objects_are_those_with_a_precision(make_scene: Callable[..., Any]) -> None:
    for seed in range(3):
        scene = make_scene(seed, images=5)
        precision = coco_tables(scene.table, scene.detections).precision[0, 0, :, 0, -1]
        assert (counted_objects(scene.table) > 0).tolist() == (~np.isnan(precision)).tolist()


def test_areas_are_those_of_pycocotools() -> None:
    assert list(ALL_AREAS) == Params(iouType="bbox").areaRng[0]


@pytest.mark.parametrize(("name", "severity"), [("val", "error"), ("test", "note")])
@pytest.mark.parametrize(
    ("boxes", "cause"),
    [
        ((), "no objects at all; see that its annotations"),
        ((True,), "its 1 box are crowd regions"),
        ((True, False), ""),
    ],
)
def test_what_is_read_is_reported_by_split(
    name: str, severity: str, boxes: tuple[bool, ...], cause: str, tmp_path: Path
) -> None:
    records = tuple(BoxRecord(k, 1, 1, (1.0, 1.0, 5.0, 5.0), 25.0, crowd=crowd) for k, crowd in enumerate(boxes))
    findings = Findings()
    find_unscored(RawSplit(name, tmp_path, (ImageRecord(1, "a.png", 9, 9),), records), tmp_path, findings)
    if not cause:
        assert not findings.all
        return
    (finding,) = findings.all
    assert (finding.severity, finding.where) == (severity, str(tmp_path))
    assert f"split '{name}' has no" in finding.text
    assert cause in finding.text
