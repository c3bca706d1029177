"""Resampled AP is exactly what pycocotools says of the copied images, and it is fast."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tood.data.split_table import SplitTable
from tood.evaluation.coco_metrics import evaluate_detections, match_detections
from tood.evaluation.match_records import MatchRecords
from tood.evaluation.significance import draw_weights, percentile_interval, resampled_ap


def copied(scene: Any, weights: np.ndarray, folder: Path) -> tuple[SplitTable, list[dict[str, Any]]]:
    """The resample as files: each image as often as drawn, every copy with its objects and detections."""
    images, objects, detections = [], [], []
    for position, count in enumerate(weights):
        original = position + 1
        for copy in range(count):
            new = 100 * original + copy
            images.append({**scene.annotations["images"][position], "id": new})
            objects += [
                {**entry, "image_id": new, "id": len(objects) + k + 1}
                for k, entry in enumerate(e for e in scene.annotations["annotations"] if e["image_id"] == original)
            ]
            detections += [{**e, "image_id": new} for e in scene.detections if e["image_id"] == original]
    path = folder / "copied.json"
    path.write_text(json.dumps({**scene.annotations, "images": images, "annotations": objects}))
    return SplitTable.of_json(path), detections


@pytest.mark.parametrize(
    ("seed", "levels", "images"),
    [(0, 0, 12), (1, 0, 40), (2, 4, 12), (3, 2, 12), (4, 1, 6), (5, 8, 25)],
    ids=["plain", "many", "ties", "more ties", "one score", "ties in many"],
)
def test_equals_pycocotools_on_copied_images(
    make_scene: Callable[..., Any], tmp_path: Path, seed: int, levels: int, images: int
) -> None:
    scene = make_scene(seed, images=images, levels=levels)
    records = match_detections(scene.table, scene.detections)
    weights = draw_weights(images, resamples=12, seed=seed)
    assert weights.max() >= 3
    found = resampled_ap(records, weights)
    expected = [evaluate_detections(*copied(scene, column, tmp_path)).stats["AP"] for column in weights.T]
    assert np.std(expected) > 0.005
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_all_images_once_is_the_ordinary_ap(make_scene: Callable[..., Any]) -> None:
    scene = make_scene(7)
    result = evaluate_detections(scene.table, scene.detections)
    once = np.ones((result.images, 1), np.int32)
    assert resampled_ap(result.matches, once)[0] == pytest.approx(result.stats["AP"], abs=1e-12)


def test_resample_without_a_class_averages_over_the_others(make_scene: Callable[..., Any], tmp_path: Path) -> None:
    scene = make_scene(0)
    rare = {e["image_id"] for e in scene.annotations["annotations"] if e["category_id"] == 9 and not e["iscrowd"]}
    weights = np.array([[0 if i + 1 in rare else 2] for i in range(12)], np.int32)
    result = evaluate_detections(*copied(scene, weights[:, 0], tmp_path))
    assert result.per_class["class9"].ap is None
    records = match_detections(scene.table, scene.detections)
    assert resampled_ap(records, weights)[0] == pytest.approx(result.stats["AP"], abs=1e-12)


def test_resample_without_objects_is_undefined_and_left_out_of_the_interval(
    make_scene: Callable[..., Any],
) -> None:
    scene = make_scene(0)
    weights = np.zeros((12, 3), np.int32)
    weights[:2, 0] = 6  # images 1 and 2 have no objects
    weights[:, 1:] = 1
    values = resampled_ap(match_detections(scene.table, scene.detections), weights)
    assert np.isnan(values[0])
    interval = percentile_interval(values)
    assert interval is not None
    assert interval.low == interval.high == pytest.approx(values[1])
    assert percentile_interval(np.array([np.nan])) is None


def test_no_detections_resample_to_zero(make_scene: Callable[..., Any]) -> None:
    records = match_detections(make_scene().table, [])
    assert (resampled_ap(records, draw_weights(12, 5)) == 0).all()


def test_weights_are_the_same_for_the_same_seed_and_sum_to_the_images() -> None:
    weights = draw_weights(30, 50, seed=3)
    assert (weights.sum(axis=0) == 30).all()
    np.testing.assert_array_equal(weights, draw_weights(30, 50, seed=3))
    assert (weights != draw_weights(30, 50, seed=4)).any()


def test_interval_is_narrower_when_differences_are_paired(make_scene: Callable[..., Any]) -> None:
    scene = make_scene(0, images=40)
    weights = draw_weights(40, 400)
    better = resampled_ap(match_detections(scene.table, scene.detections), weights)
    worse = resampled_ap(match_detections(scene.table, scene.detections[: -len(scene.detections) // 5]), weights)
    paired = percentile_interval(better - worse)
    unpaired = percentile_interval(better - worse[::-1])
    assert paired is not None
    assert unpaired is not None
    assert paired.high - paired.low < 0.8 * (unpaired.high - unpaired.low)


def synthetic_records(images: int, classes: int, detections: int, objects: int) -> MatchRecords:
    rng = np.random.default_rng(0)
    counts = rng.poisson(objects / classes, (classes, images)).astype(np.int32)
    per_class = images * detections // classes
    scores = np.sort(rng.random((classes, per_class)), axis=1)[:, ::-1]
    quality = np.where(rng.random(scores.shape) < scores**3 * 0.4, rng.uniform(0.45, 1, scores.shape), 0).ravel()
    hits = quality >= np.linspace(0.5, 0.95, 10)[:, None]
    where = rng.integers(0, images, per_class * classes).astype(np.int32)
    offsets = np.arange(classes + 1) * per_class
    return MatchRecords(np.arange(images), counts, offsets, where, scores.ravel(), hits, np.zeros_like(hits))


def test_speed_three_runs_of_300_images() -> None:
    records = synthetic_records(images=300, classes=6, detections=100, objects=10)
    weights = draw_weights(300, 1000)
    start = time.process_time()
    for _ in range(3):
        assert resampled_ap(records, weights).std() > 0
    assert time.process_time() - start < 15
