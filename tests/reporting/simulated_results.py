"""A study's results as training and evaluation leave them, made up in a second.

Detections come from the true boxes by a model of a detector (some missed, some shifted, some confused, some
invented), and every number from the project's own evaluation of them.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tood.data.prepared import PreparedSplit
from tood.data.split_table import SplitTable
from tood.evaluation.coco_metrics import evaluate_detections
from tood.evaluation.outputs import write_evaluation
from tood.io.write import write_json, write_text, write_yaml
from tood.reporting.comparison import ComparisonStudy, Row
from tood.reporting.run_folder import RunFolder

CLASSES = ("RBC", "WBC", "Platelets")
COLOURS = ((214, 120, 120), (120, 90, 190), (190, 160, 220))
START = 1_700_000_000.0


def build_dataset(folder: Path, images: int, seed: int = 0) -> Path:
    """Ellipses of three classes on ``images`` pictures of 160x120; returns the annotations file."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    entries, objects = [], []
    for image in range(1, images + 1):
        canvas = Image.new("RGB", (160, 120), (236, 222, 214))
        pen = ImageDraw.Draw(canvas)
        for _ in range(int(rng.integers(2, 8))):
            label = int(rng.choice(3, p=[0.6, 0.2, 0.2]))
            width, height = rng.uniform(0.8, 1.2, 2) * (34, 110, 14)[label]
            x, y = rng.uniform(0, max(1, 160 - width)), rng.uniform(0, max(1, 120 - height))
            pen.ellipse((x, y, x + width, y + height), fill=COLOURS[label], outline=(90, 60, 60))
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image,
                    "category_id": label + 1,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
        canvas.save(folder / "images" / f"{image:03d}.png")
        entries.append({"id": image, "file_name": f"{image:03d}.png", "width": 160, "height": 120})
    path = folder / "annotations" / "val.json"
    path.parent.mkdir()
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
    path.write_text(json.dumps({"images": entries, "annotations": objects, "categories": categories}))
    return path


def invent_detections(annotations: Path, skill: float, seed: int) -> list[dict[str, Any]]:
    """What a detector of ``skill`` (0-1) might find."""
    rng = np.random.default_rng(seed)
    content = json.loads(annotations.read_text())
    found = []
    for entry in content["annotations"]:
        box = np.asarray(entry["bbox"])
        for guess in range(1 + int(rng.random() < 0.3)):
            if rng.random() > 0.55 + 0.45 * skill:
                continue
            shift = rng.normal(0, 0.17 - 0.13 * skill, 4) * (1 + guess) * np.tile(box[2:], 2)
            moved = np.maximum(box + shift, 0.5)
            right = rng.random() < 0.75 + 0.25 * skill
            category = entry["category_id"] if right else int(rng.integers(1, len(CLASSES) + 1))
            score = rng.beta(2 + 6 * skill, 2 + 2 * guess)
            found.append((entry["image_id"], category, moved, score))
    for image in content["images"]:
        for _ in range(rng.poisson(3 - 2 * skill)):
            box = np.array([*rng.uniform(0, 100, 2), *rng.uniform(8, 60, 2)])
            found.append((image["id"], int(rng.integers(1, len(CLASSES) + 1)), box, rng.beta(1.5, 5)))
    return [
        {"image_id": i, "category_id": c, "bbox": [round(float(v), 2) for v in b], "score": float(s)}
        for i, c, b, s in found
    ]


def history_text(epochs: int, final: float, seed: int, steps: int = 40, losses: tuple[str, ...] = ()) -> str:
    """A plausible ``history.csv``: falling losses, AP rising to ``final``."""
    rng = np.random.default_rng(seed)
    losses = losses or ("loss_bbox", "loss_cls")
    names = [
        "step",
        "epoch",
        "time",
        "lr",
        "loss",
        *losses,
        "val_AP",
        "val_AP50",
        "val_AP75",
        "images_per_second",
    ]
    lines = [",".join(names)]
    for step in range(10, epochs * steps + 1, 10):
        epoch = (step - 1) // steps + 1
        parts = [(0.4 + math.exp(-step / 150)) * rng.uniform(0.9, 1.1) for _ in losses]
        lr = 0.01 * min(1, step / 50) * (0.1 if epoch > 0.8 * epochs else 1)
        row = [step, epoch, f"{START + 2.5 * step:.3f}", f"{lr:.6g}", f"{sum(parts):.6g}"]
        row += [f"{part:.6g}" for part in parts]
        ap = final * (1 - math.exp(-3.2 * epoch / epochs)) / (1 - math.exp(-3.2))
        ends = step % steps == 0
        row += [f"{v:.6g}" if ends else "" for v in (ap, min(1, 1.6 * ap), ap * 1.05)] + [f"{rng.uniform(55, 60):.4g}"]
        lines.append(",".join(str(value) for value in row))
    return "\n".join(lines) + "\n"


def run_config(study: str, run: str, row: str, method: str, seed: int) -> dict[str, Any]:
    heads = {
        "tood": {"kind": "task_aligned", "convs": 6, "boxes": "distance"},
        "atss": {"kind": "parallel", "convs": 4, "boxes": "delta", "reg_max": 16, "centerness": True},
        "gfl": {"kind": "parallel", "convs": 4, "boxes": "bins", "reg_max": 16, "centerness": False},
    }
    return {
        "study": study,
        "run": run,
        "row": row,
        "dataset": {"format": "voc", "name": "cells", "root": "/somewhere", "classes": list(CLASSES)},
        "method": {"name": method, "head": heads[method], "criterion": {"kind": method, "box_weight": 2.0}},
        "backbone": {"name": "resnet18", "kind": "resnet18", "weights": "none", "width": 64},
        "schedule": {"name": "short", "epochs": 12, "milestones": [8, 11], "batch": 8, "lr": 0.01},
        "seed": seed,
    }


def build_run(
    folder: Path,
    annotations: Path,
    study: str,
    row: str,
    method: str,
    skill: float,
    seed: int,
    trained: bool = True,
) -> RunFolder:
    """Write all files of a run, or with ``trained=False`` those of one that is still training."""
    epochs = 12
    draw = 1000 * seed + len(row) + sum(map(ord, row))
    write_yaml(folder / "config.yaml", run_config(study, folder.name, row, method, seed))
    detections = invent_detections(annotations, skill, draw)
    result = evaluate_detections(SplitTable.of_json(annotations), detections)
    extra = {"atss": ("loss_centerness",), "gfl": ("loss_dfl",)}.get(method, ())
    losses = ("loss_bbox", *extra, "loss_cls")
    done = epochs if trained else 5
    write_text(folder / "history.csv", history_text(done, result.stats["AP"] or 0.0, draw, losses=losses))
    if not trained:
        return RunFolder(folder)
    write_json(folder / "detections.json", detections)
    write_evaluation(
        folder,
        result,
        split="val",
        checkpoint=f"last (epoch {epochs})",
        images_per_second={"tood": 41.0, "atss": 52.5, "gfl": 50.1}[method] + seed,
        seconds=2.0,
    )
    write_json(
        folder / "train.json",
        {
            "fingerprint": f"{draw:016x}",
            "data": "0" * 64,
            "seconds": {"tood": 1260.0, "atss": 984.2, "gfl": 1011.9}[method],
            "attempts": 1,
            "peak_memory_bytes": 1_300_000_000,
            "device": "cpu",
            "processes": 1,
            "precision": "float32",
            "effective_batch": 8,
            "learning_rate": 0.005,
            "epochs": epochs,
            "steps": 480,
            "parameters": {"tood": 14_120_345, "atss": 13_220_118, "gfl": 13_241_902}[method],
            "parameters_trainable": 13_000_000,
            "gflops": {"tood": 11.7, "atss": 10.9, "gfl": 11.1}[method],
            "gflops_at": [320, 448],
        },
    )
    (folder / "samples").mkdir(exist_ok=True)
    Image.new("RGB", (32, 24), (200, 30, 30)).save(folder / "samples" / "001.png")
    return RunFolder(folder)


DEFAULT_ROWS = {"atss": ("atss", 0.55), "gfl": ("gfl", 0.6), "tood": ("tood", 0.85)}


def build_study(
    root: Path,
    name: str = "cells",
    rows: dict[str, tuple[str, float]] | None = None,
    seeds: int = 1,
    images: int = 24,
    baseline: str = "atss",
) -> ComparisonStudy:
    """``rows``: name -> (method, skill); the results lie in ``root/results/<name>``."""
    annotations = build_dataset(root / "data" / "cells", images)
    built = []
    for row, (method, skill) in (rows or DEFAULT_ROWS).items():
        folders = []
        for seed in range(seeds):
            run = row if seeds == 1 else f"{row}_seed{seed}"
            folder = root / "results" / name / run
            folders.append(build_run(folder, annotations, name, row, method, skill, seed))
        built.append(Row(row, method, "resnet18", "short", tuple(folders)))
    return ComparisonStudy(
        name=name,
        title="Three detectors on made-up cells",
        description="Made up for tests.",
        dataset="cells",
        baseline=baseline,
        rows=tuple(built),
        split=PreparedSplit("val", annotations, root / "data" / "cells" / "images", images, 0, "0"),
    )


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., ComparisonStudy]:
    def build(**options: Any) -> ComparisonStudy:
        return build_study(tmp_path, **options)

    return build


@pytest.fixture
def without_objects() -> Callable[[ComparisonStudy], ComparisonStudy]:
    """Take all objects out of a study's split, and evaluate its runs again; the study as it is then."""

    def empty(study: ComparisonStudy) -> ComparisonStudy:
        content = json.loads(study.split.annotations.read_text())
        study.split.annotations.write_text(json.dumps({**content, "annotations": []}))
        for run in (run for row in study.rows for run in row.runs):
            result = evaluate_detections(SplitTable.of_json(study.split.annotations), run.detections())
            checkpoint = run.metrics().checkpoint
            write_evaluation(
                run.path, result, split=study.split.name, checkpoint=checkpoint, images_per_second=None, seconds=None
            )
        return replace(study)  # which reads the split again

    return empty


@pytest.fixture(scope="session")
def empty_store(build_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A fresh MLflow database, which takes seconds to make: the tests copy it."""

    def make(folder: Path) -> None:
        script = "from mlflow.tracking import MlflowClient; MlflowClient('sqlite:///mlflow.db').search_experiments()"
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, check=True, capture_output=True)

    return build_once("store", make) / "mlflow.db"
