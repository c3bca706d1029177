"""What an evaluation leaves on disk is complete and says "undefined" as null."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tood.evaluation.coco_metrics import STATS, evaluate_detections
from tood.evaluation.outputs import write_evaluation


def test_metrics_and_curves_agree(make_scene: Callable[..., Any], tmp_path: Path) -> None:
    scene = make_scene(0)
    objects = [entry for entry in scene.annotations["annotations"] if entry["category_id"] != 5]
    scene.path.write_text(json.dumps({**scene.annotations, "annotations": objects}))
    result = evaluate_detections(scene.table, scene.detections)
    write_evaluation(tmp_path, result, split="val", checkpoint="last (epoch 3)", images_per_second=7.5, seconds=1.6)

    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {name: metrics[name] for name in STATS} == dict(result.stats)
    assert metrics["split"] == "val"
    assert metrics["checkpoint"] == "last (epoch 3)"
    assert metrics["images"] == 12
    assert metrics["images_per_second"] == 7.5
    assert metrics["per_class"]["class5"] == {"AP": None, "AP50": None}

    curves = pd.read_csv(tmp_path / "pr.csv")
    assert list(curves.columns) == ["class", "iou", "recall", "precision", "score"]
    assert sorted(curves["class"].unique()) == ["class2", "class9"]
    for name, curve in curves.groupby("class"):
        assert len(curve) == 101
        assert curve["precision"].mean() == pytest.approx(metrics["per_class"][name]["AP50"], abs=1e-5)
        assert curve["recall"].iloc[[0, -1]].tolist() == [0, 1]
