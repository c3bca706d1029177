"""Pictures that cannot be decoded: refused in one message that names all, or left out with ``unreadable: drop``."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tood.config.datasets import DatasetConfig
from tood.data.check import check_dataset
from tood.data.made_from import data_state
from tood.io.errors import UserError

from .own_layouts import coco, content_of, prepare, voc, yolo

LAYOUTS = [
    ("coco_root", coco, "train/a.jpg", "train/b.jpg"),
    ("voc_root", voc, "JPEGImages/a.jpg", "JPEGImages/b.jpg"),
    ("yolo_root", yolo, "images/train/b.png", "images/train/a.png"),
]


def no_picture(path: Path) -> None:
    path.write_bytes(b"no picture " * 20)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


@pytest.mark.parametrize(("layout", "config", "broken", "other"), LAYOUTS)
@pytest.mark.parametrize("damage", [no_picture, cut_off])
def test_they_are_left_out_with_their_annotations_until_repaired(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    layout: str,
    config: Callable[..., DatasetConfig],
    broken: str,
    other: str,
    damage: Callable[[Path], None],
) -> None:
    root = request.getfixturevalue(layout)
    whole = (root / broken).read_bytes()
    before = content_of(prepare(config(root), tmp_path / "data" / "mine"), "train")
    damage(root / broken)
    folder = tmp_path / "data" / "mine"
    mine = config(root, unreadable="drop")
    prepared = prepare(mine, folder)
    after = content_of(prepared, "train")
    (left,) = after["images"]
    assert left in before["images"]
    assert str(left["file_name"]).endswith(Path(other).name)
    assert {box["image_id"] for box in after["annotations"]} <= {left["id"]}
    assert content_of(prepared, "val")["images"]
    notes = "\n".join(prepared.notes)
    assert f"{broken}: left out with its annotations" in notes
    assert "1 of 4 pictures left out" in notes
    assert "in no split" not in notes
    assert "without a picture" not in notes
    report = check_dataset(mine, folder, mirror=None, params_root=tmp_path / "params")
    assert report.ok
    assert [split.images for split in report.splits] == [1, 2]
    assert not data_state(mine, folder, tmp_path / "params").problem
    (root / broken).write_bytes(whole)
    assert f"{broken}: has changed" in data_state(mine, folder, tmp_path / "params").problem
    again = prepare(mine, folder)
    assert content_of(again, "train") == before
    assert again.content != prepared.content


@pytest.mark.parametrize(("layout", "config", "broken", "other"), LAYOUTS)
def test_all_are_named_in_one_message_with_the_remedy(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    layout: str,
    config: Callable[..., DatasetConfig],
    broken: str,
    other: str,
) -> None:
    root = request.getfixturevalue(layout)
    no_picture(root / broken)
    cut_off(root / other)
    with pytest.raises(UserError) as caught:
        prepare(config(root), tmp_path / "data" / "mine")
    first, *others = caught.value.sentences
    assert "2 pictures cannot be read" in first
    assert "'unreadable: drop'" in first
    assert [sentence.partition(": ")[0] for sentence in others] == [str(root / broken), str(root / other)]
    report = check_dataset(config(root), tmp_path / "data" / "mine", mirror=None, params_root=tmp_path / "params")
    assert not report.ok
    assert any("'unreadable: drop'" in sentence for _, sentence in report.sentences)
    with pytest.raises(UserError, match="split 'train': has no picture that can be read"):
        prepare(config(root, unreadable="drop"), tmp_path / "data" / "mine")


@pytest.mark.parametrize(("layout", "config", "missing", "other"), LAYOUTS[:2])
def test_a_missing_picture_is_another_fault(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    layout: str,
    config: Callable[..., DatasetConfig],
    missing: str,
    other: str,
) -> None:
    root = request.getfixturevalue(layout)
    (root / missing).unlink()
    no_picture(root / other)
    with pytest.raises(UserError, match=r"missing|there is no"):
        prepare(config(root, unreadable="drop"), tmp_path / "data" / "mine")


@pytest.mark.parametrize("damage", [no_picture, cut_off])
@pytest.mark.parametrize("layout", ["coco", "voc", "yolo"])
def test_drawn_splits_are_the_same_for_all_others(
    tmp_path: Path, make_image: Callable[..., Path], layout: str, damage: Callable[[Path], None]
) -> None:
    root = tmp_path / layout
    names = [f"{number}.png" for number in range(12)]
    folder = root / ("JPEGImages" if layout == "voc" else "images")
    for name in names:
        make_image(folder / name)
    draw = {"draw": {"val": 0.34, "test": 0.16, "seed": 3}, "splits": None}
    if layout == "coco":
        images = [{"id": n, "file_name": name, "width": 64, "height": 48} for n, name in enumerate(names)]
        boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 30, 20]} for n in range(12)]
        whole = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
        (root / "all.json").write_text(json.dumps(whole))
        make, fields = coco, {**draw, "images": "images", "annotations": "all.json"}
    elif layout == "voc":
        (root / "Annotations").mkdir()
        box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
        for name in names:
            text = f"<annotation><object><name>cat</name>{box}</object></annotation>"
            (root / "Annotations" / name).with_suffix(".xml").write_text(text)
        make, fields = voc, draw
    else:
        (root / "labels").mkdir()
        for name in names:
            (root / "labels" / name).with_suffix(".txt").write_text("0 0.5 0.5 0.5 0.5\n")
        make, fields = yolo, {**draw, "images": "images", "classes": ["cat"]}
    before = prepare(make(root, **fields), tmp_path / "data" / "mine")
    drawn = {name: content_of(before, name) for name in before.splits}
    broken = drawn["val"]["images"][0]
    damage(folder / Path(str(broken["file_name"])).name)
    after = prepare(make(root, **fields, unreadable="drop"), tmp_path / "data" / "mine")
    for name, content in drawn.items():
        left = [image for image in content["images"] if image != broken]
        assert [image["file_name"] for image in content_of(after, name)["images"]] == [i["file_name"] for i in left]


def test_the_default_is_no_part_of_recorded_fingerprints(tmp_path: Path, yolo_root: Path) -> None:
    folder = tmp_path / "data" / "mine"
    first = prepare(yolo(yolo_root), folder)
    made_from = json.loads((folder / "dataset.json").read_text())["made_from"]
    shutil.rmtree(folder)
    second = prepare(yolo(yolo_root, unreadable="refuse"), folder)
    assert second.fingerprint == first.fingerprint
    assert json.loads((folder / "dataset.json").read_text())["made_from"] == made_from
    dropping = prepare(yolo(yolo_root, unreadable="drop"), tmp_path / "data" / "other")
    assert dropping.content == first.content
    assert dropping.fingerprint != first.fingerprint
