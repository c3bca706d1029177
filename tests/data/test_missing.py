"""Pictures that are annotated but not there: refused with their number, or left out with ``missing: drop``."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tood.config.datasets import CocoDataset, DatasetConfig, VocDataset, YoloDataset
from tood.data.check import check_dataset
from tood.data.findings import SHOWN
from tood.data.made_from import data_state
from tood.data.prepare import prepare_dataset
from tood.data.prepared import PreparedDataset
from tood.io.errors import UserError


def coco(root: Path, **fields: object) -> CocoDataset:
    splits = {name: {"images": name, "annotations": f"annotations/{name}.json"} for name in ("train", "val")}
    return CocoDataset.model_validate({"name": "mine", "format": "coco", "root": str(root), "splits": splits, **fields})


def voc(root: Path, **fields: object) -> VocDataset:
    lists = {name: f"ImageSets/Main/{name}.txt" for name in ("train", "val")}
    return VocDataset.model_validate({"name": "mine", "format": "voc", "root": str(root), "splits": lists, **fields})


def yolo(root: Path, **fields: object) -> YoloDataset:
    for name in ("train", "val"):
        files = sorted(path.relative_to(root).as_posix() for path in (root / "images" / name).glob("*.png"))
        if not (root / f"{name}.txt").exists():
            (root / f"{name}.txt").write_text("\n".join(files))
    lists = {name: f"{name}.txt" for name in ("train", "val")}
    return YoloDataset.model_validate({"name": "mine", "format": "yolo", "root": str(root), "splits": lists, **fields})


LAYOUTS = [
    ("coco_root", coco, "train/a.jpg", "train/b.jpg"),
    ("voc_root", voc, "JPEGImages/a.jpg", "JPEGImages/b.jpg"),
    ("yolo_root", yolo, "images/train/b.png", "images/train/a.png"),
]
layouts = pytest.mark.parametrize(("layout", "config", "lost", "other"), LAYOUTS)
Make = Callable[..., DatasetConfig]


def prepare(config: DatasetConfig, folder: Path) -> PreparedDataset:
    return prepare_dataset(config, folder, mirror=None, params_root=folder.parent / "params")


def content_of(prepared: PreparedDataset, split: str) -> dict[str, list[dict[str, object]]]:
    return json.loads(prepared.split(split).annotations.read_text())


@layouts
def test_they_are_left_out_with_their_annotations_until_they_are_back(
    tmp_path: Path, request: pytest.FixtureRequest, layout: str, config: Make, lost: str, other: str
) -> None:
    root = request.getfixturevalue(layout)
    folder = tmp_path / "data" / "mine"
    before = content_of(prepare(config(root), folder), "train")
    whole = (root / lost).read_bytes()
    (root / lost).unlink()
    mine = config(root, missing="drop")
    prepared = prepare(mine, folder)
    after = content_of(prepared, "train")
    (left,) = after["images"]
    assert str(left["file_name"]).endswith(Path(other).name)
    assert {box["image_id"] for box in after["annotations"]} <= {left["id"]}
    notes = "\n".join(prepared.notes)
    assert "1 picture left out" in notes
    assert "'missing: drop'" in notes
    report = check_dataset(mine, folder, mirror=None, params_root=tmp_path / "params")
    assert report.ok
    assert [split.images for split in report.splits] == [1, 2]
    assert not data_state(mine, folder, tmp_path / "params").problem
    (root / lost).write_bytes(whole)
    assert "is new" in data_state(mine, folder, tmp_path / "params").problem
    assert content_of(prepare(mine, folder), "train") == before


@layouts
def test_they_are_counted_and_the_remedy_is_named(
    tmp_path: Path, request: pytest.FixtureRequest, layout: str, config: Make, lost: str, other: str
) -> None:
    root = request.getfixturevalue(layout)
    mine = config(root)
    for name in (lost, other):
        (root / name).unlink()
    with pytest.raises(UserError) as caught:
        prepare(mine, tmp_path / "data" / "mine")
    assert any("2 pictures are missing" in one and "'missing: drop'" in one for one in caught.value.sentences)
    report = check_dataset(mine, tmp_path / "data" / "mine", mirror=None, params_root=tmp_path / "params")
    assert not report.ok
    assert any("2 pictures are missing" in text and "'missing: drop'" in text for _, text in report.sentences)
    with pytest.raises(UserError, match="split 'train': has no picture that is there"):
        prepare(config(root, missing="drop"), tmp_path / "data" / "mine")


def test_many_missing_pictures_are_few_lines(tmp_path: Path, coco_root: Path) -> None:
    listing = coco_root / "annotations" / "train.json"
    content = json.loads(listing.read_text())
    content["images"] += [
        {"id": 1000 + n, "file_name": f"{n:x}ab{n}_jpg.rf.{'cdef'[n % 4] * 5}.jpg", "width": 9, "height": 9}
        for n in range(100)
    ]
    listing.write_text(json.dumps(content))
    report = check_dataset(coco(coco_root), tmp_path / "data", mirror=None, params_root=tmp_path / "params")
    errors = [text for severity, text in report.sentences if severity == "error"]
    assert len(errors) == SHOWN + 1
    assert errors[-1] == f"{100 - SHOWN} more of this kind"


def test_the_default_is_no_part_of_recorded_fingerprints(tmp_path: Path, coco_root: Path) -> None:
    first = prepare(coco(coco_root), tmp_path / "data" / "mine")
    assert "missing" not in json.loads((tmp_path / "data" / "mine" / "dataset.json").read_text())["made_from"]
    dropping = prepare(coco(coco_root, missing="drop"), tmp_path / "data" / "other")
    assert dropping.content == first.content
