"""Names of one class that are written in several ways are named, refused, and put right by ``rename``."""

import json
from pathlib import Path

import pytest

from tood.config.datasets import CocoDataset, CocoSplit, VocDataset, YoloDataset
from tood.data.findings import Findings
from tood.data.formats.class_names import folded
from tood.data.formats.reading import read_dataset

PAIRS = [
    ("dog", "Dog"),
    ("traffic light", "traffic_light"),
    ("b\u00e4r", "ba\u0308r"),
    ("dog", "dog\u200b"),
    ("no 1", "no\u00a01"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_names_that_look_alike_are_alike(one: str, other: str) -> None:
    assert folded(one) == folded(other)
    assert folded("cat") != folded(one)


def yolo(root: Path, rename: dict[str, str], one: str, other: str):
    (root / "data.yaml").write_text(json.dumps({"names": [one, other]}))
    findings = Findings()
    splits = {"train": "images/train", "val": "images/val"}
    config = YoloDataset(name="mine", format="yolo", root=str(root), splits=splits, rename=rename)
    return read_dataset(config, root, findings), findings


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_yolo(yolo_root: Path, one: str, other: str) -> None:
    _, findings = yolo(yolo_root, {}, one, other)
    (error,) = findings.errors
    assert "rename" in error.text
    dataset, findings = yolo(yolo_root, {other: one}, one, other)
    assert not findings.errors
    assert dataset.classes == [one]
    assert {box.category_id for split in dataset.splits for box in split.boxes} == {1}
    dataset, findings = yolo(yolo_root, {other: other, one: one}, one, other)
    assert not findings.errors, "names that are meant to differ"
    assert dataset.classes == [one, other]


def test_voc_finds_them_in_single_files(voc_root: Path) -> None:
    path = voc_root / "Annotations" / "b.xml"
    path.write_text(path.read_text().replace("dog", "Dog"))
    lists = {"train": "ImageSets/Main/train.txt", "val": "ImageSets/Main/val.txt"}
    findings = Findings()
    config = VocDataset(name="mine", format="voc", root=str(voc_root), splits=lists)
    read_dataset(config, voc_root, findings)
    assert any("'Dog'" in error.text and "'dog'" in error.text for error in findings.errors)
    findings = Findings()
    dataset = read_dataset(config.model_copy(update={"rename": {"Dog": "dog"}}), voc_root, findings)
    assert not findings.errors
    assert dataset.classes == ["cat", "dog"]


def test_coco_may_differ_between_splits(coco_root: Path) -> None:
    path = coco_root / "annotations" / "val.json"
    path.write_text(path.read_text().replace('"dog"', '"Dog"'))
    splits = {name: CocoSplit(images=name, annotations=f"annotations/{name}.json") for name in ("train", "val")}
    config = CocoDataset(name="mine", format="coco", root=str(coco_root), splits=splits, rename={"Dog": "dog"})
    findings = Findings()
    assert read_dataset(config, coco_root, findings).classes == ["cat", "dog"]
    assert not findings.errors
    findings = Findings()
    read_dataset(config.model_copy(update={"rename": {"Dgo": "dog"}}), coco_root, findings)
    assert any("'Dgo'" in error.text and "did you mean 'Dog'" in error.text for error in findings.errors)
