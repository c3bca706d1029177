"""The numbers are pycocotools' own, and the cases it stumbles over have answers."""

import contextlib
import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tood.data.split_table import SplitTable
from tood.evaluation.coco_metrics import RECALLS, STATS, evaluate_detections, match_detections
from tood.evaluation.ground_truth import count_objects
from tood.io.errors import UserError


def reference(path: Path, detections: list[dict[str, Any]]) -> Any:
    """pycocotools as its own documentation runs it."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        truth.dataset.setdefault("info", {})
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(detections)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize(("seed", "levels"), [(0, 0), (1, 0), (3, 5)])
def test_twelve_numbers_and_curves_are_those_of_pycocotools(
    make_scene: Callable[..., Any], seed: int, levels: int, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = make_scene(seed, levels=levels)
    before = copy.deepcopy(scene.detections)
    result = evaluate_detections(scene.table, scene.detections)
    assert capsys.readouterr().out == ""
    assert scene.detections == before

    expected = reference(scene.path, scene.detections)
    assert 0.05 < expected.stats[0] < 0.95
    assert list(result.stats) == list(STATS)
    found = [-1.0 if value is None else value for value in result.stats.values()]
    assert found == pytest.approx(list(expected.stats), abs=1e-12)
    precision = expected.eval["precision"][:, :, :, 0, -1]
    for c, values in enumerate(result.per_class.values()):
        assert values.ap == pytest.approx(precision[:, :, c].mean(), abs=1e-12)
        assert values.ap50 == pytest.approx(precision[0, :, c].mean(), abs=1e-12)
    np.testing.assert_allclose(result.precision, precision[0].T)
    assert result.precision.shape == (3, len(RECALLS))


def test_no_detections_at_all_is_zero_not_an_error(make_scene: Callable[..., Any]) -> None:
    result = evaluate_detections(make_scene().table, [])
    assert result.stats["AP"] == 0.0
    assert result.matches.true_positive.shape == (10, 0)


def test_nothing_to_find_is_undefined(make_scene: Callable[..., Any], tmp_path: Path) -> None:
    scene = make_scene()
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps({**scene.annotations, "annotations": []}))
    result = evaluate_detections(SplitTable.of_json(empty), scene.detections)
    assert set(result.stats.values()) == {None}
    assert all(value.ap is None and value.ap50 is None for value in result.per_class.values())
    assert np.isnan(result.precision).all()


def test_class_without_objects_is_undefined_and_left_out_of_the_mean(
    make_scene: Callable[..., Any], tmp_path: Path
) -> None:
    scene = make_scene()
    kept = [entry for entry in scene.annotations["annotations"] if entry["category_id"] != 9]
    path = tmp_path / "two.json"
    path.write_text(json.dumps({**scene.annotations, "annotations": kept}))
    result = evaluate_detections(SplitTable.of_json(path), scene.detections)
    values = [value.ap for value in result.per_class.values()]
    assert values[2] is None
    assert result.stats["AP"] == pytest.approx(np.mean(values[:2]))


def test_object_with_id_zero_can_be_found(make_scene: Callable[..., Any], tmp_path: Path) -> None:
    scene = make_scene()
    path = tmp_path / "zero.json"
    shifted = [{**entry, "id": entry["id"] - 1} for entry in scene.annotations["annotations"]]
    path.write_text(json.dumps({**scene.annotations, "annotations": shifted}))
    expected = evaluate_detections(scene.table, scene.detections)
    assert evaluate_detections(SplitTable.of_json(path), scene.detections).stats == expected.stats


def test_objects_are_counted_without_crowds(make_scene: Callable[..., Any]) -> None:
    scene = make_scene(3)
    countable = [entry["category_id"] for entry in scene.annotations["annotations"] if not entry["iscrowd"]]
    assert len(countable) < len(scene.annotations["annotations"])
    counts = count_objects(scene.table)
    assert counts == {f"class{category}": countable.count(category) for category in (2, 5, 9)}


def test_records_alone_are_those_of_the_full_evaluation(make_scene: Callable[..., Any]) -> None:
    scene = make_scene(3)
    full = evaluate_detections(scene.table, scene.detections).matches
    alone = match_detections(scene.table, scene.detections)
    for name in ("image_ids", "objects", "offsets", "images", "scores", "true_positive", "ignored"):
        np.testing.assert_array_equal(getattr(full, name), getattr(alone, name))
    countable = [entry for entry in scene.annotations["annotations"] if not entry["iscrowd"]]
    assert full.objects.sum() == len(countable)
    assert full.ignored.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 999}, "image_id 999"),
        ({"category_id": 4}, "category_id 4"),
        ({"bbox": None}, "entry 1 needs"),
        ({"score": float("nan")}, "score nan"),
    ],
)
def test_foreign_or_broken_detections_are_refused(
    make_scene: Callable[..., Any], change: dict[str, Any], message: str
) -> None:
    scene = make_scene()
    broken = [scene.detections[0], {**scene.detections[1], **change}]
    with pytest.raises(UserError, match=message) as caught:
        match_detections(scene.table, broken, source=Path("run/detections.json"))
    assert "run/detections.json" in str(caught.value)
