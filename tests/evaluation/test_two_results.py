"""What a change of the computation costs in AP, with its interval over images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tood.data.split_table import SplitTable
from tood.evaluation.coco_metrics import evaluate_detections
from tood.evaluation.two_results import difference_of

IMAGES = 24


@pytest.fixture
def table(tmp_path: Path) -> SplitTable:
    box = {"category_id": 1, "bbox": [10, 10, 30, 30], "area": 900, "iscrowd": 0}
    listing = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 64} for n in range(1, IMAGES + 1)],
        "annotations": [box | {"id": n, "image_id": n} for n in range(1, IMAGES + 1)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "val.json").write_text(json.dumps(listing))
    return SplitTable.of_json(tmp_path / "val.json")


def found(missing: int) -> list[dict[str, Any]]:
    """All objects but those of the first images, with another error in each."""
    draw = np.random.default_rng(0)
    boxes = [[10.0 + draw.uniform(0, 6), 10.0, 30.0, 30.0] for _ in range(IMAGES)]
    every = [
        {"image_id": n, "category_id": 1, "bbox": box, "score": 0.9 - n / 100} for n, box in enumerate(boxes, start=1)
    ]
    return every[missing:]


def test_equal_detections_cost_nothing(table: SplitTable) -> None:
    cost = difference_of(table, found(0), found(0))
    assert cost is not None
    assert (cost.value, cost.interval.low, cost.interval.high) == (0.0, 0.0, 0.0)


def test_the_value_is_the_difference_of_the_aps(table: SplitTable) -> None:
    cost = difference_of(table, found(6), found(0))
    assert cost is not None
    worse, whole = (evaluate_detections(table, found(missing)).stats["AP"] for missing in (6, 0))
    assert worse is not None
    assert whole is not None
    assert cost.value == pytest.approx(worse - whole) != 0
    assert cost.interval.low < cost.value < cost.interval.high < 0


def test_without_objects_there_is_no_difference(table: SplitTable, tmp_path: Path) -> None:
    content = json.loads((tmp_path / "val.json").read_text())
    (tmp_path / "val.json").write_text(json.dumps({**content, "annotations": []}))
    assert difference_of(SplitTable.of_json(tmp_path / "val.json"), found(6), found(0)) is None
