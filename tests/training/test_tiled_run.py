"""A run on tiles of large pictures, from the data to predictions: everything it says is of whole pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_run import BACKBONE, ROOT, STUDY, reschedule, tood, train

from tood.config.study import load_study

SIZE = (200, 150)


def write_data(root: Path) -> None:
    """Gray pictures with 12 bright dots of 6 px; the last of train has none."""
    rng = np.random.default_rng(0)
    for name in ("train/a", "train/b", "train/c", "val/d", "val/e"):
        picture, label = root / "images" / f"{name}.png", root / "labels" / f"{name}.txt"
        for path in (picture, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(90, 110, (SIZE[1], SIZE[0], 3), np.uint8)
        rows = []
        for x, y in zip(rng.integers(0, 190, 12).tolist(), rng.integers(0, 140, 12).tolist(), strict=True):
            if name != "train/c":
                pixels[y : y + 6, x : x + 6] = 250
                rows.append(f"0 {(x + 3) / SIZE[0]} {(y + 3) / SIZE[1]} {6 / SIZE[0]} {6 / SIZE[1]}\n")
        Image.fromarray(pixels).save(picture)
        label.write_text("".join(rows))
    (root / "data.yaml").write_text("names: [dot]\n")


def describe(folder: Path, **more: object) -> None:
    splits = {"train": "images/train", "val": "images/val"}
    dataset = {"format": "yolo", "root": "own", "splits": splits, **more}
    (folder / "params/datasets/tiny.yaml").write_text(yaml.safe_dump(dataset))


@pytest.fixture
def tiled(tmp_path: Path) -> Path:
    """A project whose data are cut into tiles, with a run that takes two steps."""
    folder = tmp_path / "project"
    for place in ("studies", "datasets", "backbones", "schedules"):
        (folder / "params" / place).mkdir(parents=True)
    (folder / "params/methods").symlink_to(ROOT / "params/methods")
    write_data(folder / "own")
    atss = {"method": "atss", "overrides": {"method": {"inference": {"score_threshold": 0.001}}}}
    (folder / "params/studies/tiny.yaml").write_text(yaml.safe_dump({**STUDY, "runs": {"atss": atss}}))
    (folder / "params/backbones/tiny.yaml").write_text(yaml.safe_dump(BACKBONE))
    reschedule(
        folder, epochs=None, steps=2, milestones=[], milestone_shares=[0.9], evaluations=1, warmup={"iterations": 1}
    )
    describe(folder, tile={"size": 64, "overlap": 0.25})
    return folder


def test_a_run_on_tiles_is_trained_evaluated_and_used(tiled: Path) -> None:
    tood(tiled, "data", "prepare", "tiny")
    said = train(tiled, "atss")
    run = tiled / "results/tiny/atss"
    assert "tiles of 64 px of 3 images" in said
    said = tood(tiled, "evaluate", "--run", "results/tiny/atss", "--gpu", "0")
    assert "2 images of val, in tiles of 64 px" in said
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["images"] == 2
    assert metrics["tile"] == {"size": 64, "overlap": 0.25}
    found = json.loads((run / "detections.json").read_text())
    assert max(one["bbox"][0] + one["bbox"][2] for one in found) > 150, "in px of the pictures"
    assert len(list((run / "samples").glob("*.png"))) == 2
    tood(tiled, "predict", "--run", "results/tiny/atss", "own/images/val", "--out", "out", "--gpu", "0")
    predicted = json.loads((tiled / "out/detections.json").read_text())
    assert [(one["width"], one["height"]) for one in predicted["images"]] == [SIZE, SIZE]
    assert [one["bbox"] for one in predicted["annotations"]] == [one["bbox"] for one in found]
    fingerprint = load_study("tiny", tiled / "params").run("atss").fingerprint
    describe(tiled)
    assert load_study("tiny", tiled / "params").run("atss").fingerprint != fingerprint
    assert "already prepared" in tood(tiled, "data", "prepare", "tiny")
