"""Descriptions of the tiny data sets of conftest.py, whose splits are given, and what preparing them leaves."""

import json
from pathlib import Path

from tood.config.datasets import CocoDataset, DatasetConfig, VocDataset, YoloDataset
from tood.data.prepare import prepare_dataset
from tood.data.prepared import PreparedDataset

SPLITS = ("train", "val")


def coco(root: Path, **fields: object) -> CocoDataset:
    splits = {name: {"images": name, "annotations": f"annotations/{name}.json"} for name in SPLITS}
    return CocoDataset.model_validate({"name": "mine", "format": "coco", "root": str(root), "splits": splits, **fields})


def voc(root: Path, **fields: object) -> VocDataset:
    lists = {name: f"ImageSets/Main/{name}.txt" for name in SPLITS}
    return VocDataset.model_validate({"name": "mine", "format": "voc", "root": str(root), "splits": lists, **fields})


def yolo(root: Path, **fields: object) -> YoloDataset:
    splits = {name: f"images/{name}" for name in SPLITS}
    return YoloDataset.model_validate({"name": "mine", "format": "yolo", "root": str(root), "splits": splits, **fields})


def prepare(config: DatasetConfig, folder: Path) -> PreparedDataset:
    return prepare_dataset(config, folder, mirror=None, params_root=folder.parent / "params")


def content_of(prepared: PreparedDataset, split: str) -> dict[str, list[dict[str, object]]]:
    return json.loads(prepared.split(split).annotations.read_text())
