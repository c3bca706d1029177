"""One picture is one image: a picture that is used twice is refused by name, or settled as the user says."""

import shutil
from pathlib import Path

import pytest

from tood.config.datasets import CocoDataset, CocoSplit, DatasetConfig, Draw, VocDataset, YoloDataset
from tood.data.check import check_dataset
from tood.data.duplicates import duplicate_rule
from tood.data.prepare import prepare_dataset
from tood.data.prepared import PreparedDataset
from tood.io.errors import UserError

FOLDERS = {"train": "images/train", "val": "images/val"}


def prepare(config: DatasetConfig, tmp_path: Path) -> PreparedDataset:
    return prepare_dataset(config, tmp_path / "data" / "mine", mirror=None, params_root=tmp_path / "params")


def yolo(root: Path, **fields: object) -> YoloDataset:
    return YoloDataset(name="mine", format="yolo", root=str(root), splits=FOLDERS, **fields)


def copied(root: Path) -> tuple[Path, Path]:
    """A picture of train that is in val under another name, with the same label."""
    first, second = root / "images" / "train" / "a.png", root / "images" / "val" / "other.png"
    shutil.copyfile(first, second)
    shutil.copyfile(root / "labels" / "train" / "a.txt", root / "labels" / "val" / "other.txt")
    return first, second


def test_the_same_content_in_two_splits_is_refused_with_both_names(tmp_path: Path, yolo_root: Path) -> None:
    first, second = copied(yolo_root)
    report = check_dataset(yolo(yolo_root), tmp_path / "data" / "mine", mirror=None, params_root=tmp_path / "params")
    (error,) = [finding for finding in report.findings if finding.severity == "error"]
    assert error.where == str(second)
    assert str(first) in error.text
    with pytest.raises(UserError, match="duplicates: first") as caught:
        prepare(yolo(yolo_root), tmp_path)
    assert str(second) in str(caught.value)


@pytest.mark.parametrize(("rule", "images"), [("first", (2, 2)), ("keep", (2, 3))])
def test_the_user_may_settle_it_and_is_told(
    tmp_path: Path, yolo_root: Path, rule: str, images: tuple[int, int]
) -> None:
    _, second = copied(yolo_root)
    prepared = prepare(yolo(yolo_root, duplicates=rule), tmp_path)
    assert tuple(split.image_count for split in prepared.splits.values()) == images
    (note,) = [note for note in prepared.notes if str(second) in note]
    assert ("left out" in note) == (rule == "first")


def test_published_data_are_kept_as_published_unless_told_otherwise(yolo_root: Path) -> None:
    own = yolo(yolo_root)
    assert duplicate_rule(own) == "refuse"
    published = own.model_copy(update={"root": None})
    assert duplicate_rule(published) == "keep"
    assert duplicate_rule(published.model_copy(update={"duplicates": "first"})) == "first"


def test_a_split_of_nothing_but_pictures_of_another_is_refused(tmp_path: Path, yolo_root: Path) -> None:
    for kind in ("images", "labels"):
        shutil.rmtree(yolo_root / kind / "val")
        shutil.copytree(yolo_root / kind / "train", yolo_root / kind / "val")
    with pytest.raises(UserError, match="split 'val'"):
        prepare(yolo(yolo_root, duplicates="first"), tmp_path)


def test_copies_within_a_split_are_noted(tmp_path: Path, yolo_root: Path) -> None:
    shutil.copyfile(yolo_root / "images" / "val" / "d.png", yolo_root / "images" / "val" / "e.png")
    prepared = prepare(yolo(yolo_root), tmp_path)
    assert prepared.split("val").image_count == 3
    assert any("e.png: is the same picture as" in note for note in prepared.notes)
    assert prepare(yolo(yolo_root, duplicates="first"), tmp_path).split("val").image_count == 2


def test_a_picture_with_two_annotation_files_is_refused(tmp_path: Path, voc_root: Path) -> None:
    path = voc_root / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("<size>", "<filename>a.jpg</filename><size>"))
    copy = path.with_name("a (copy).xml")
    shutil.copyfile(path, copy)
    for seed in range(4):  # both in one split, and in two
        config = VocDataset(name="mine", format="voc", root=str(voc_root), draw=Draw(val=0.4, seed=seed))
        with pytest.raises(UserError) as caught:
            prepare(config, tmp_path)
        assert str(voc_root / "JPEGImages" / "a.jpg") in str(caught.value)
        prepared = prepare(config.model_copy(update={"duplicates": "first"}), tmp_path)
        assert sum(split.image_count for split in prepared.splits.values()) == 4


def test_an_image_listed_in_two_splits_is_refused(tmp_path: Path, voc_root: Path) -> None:
    (voc_root / "ImageSets" / "Main" / "val.txt").write_text("c\na\n")
    lists = {"train": "ImageSets/Main/train.txt", "val": "ImageSets/Main/val.txt"}
    config = VocDataset(name="mine", format="voc", root=str(voc_root), splits=lists)
    with pytest.raises(UserError, match="more than one split"):
        prepare(config, tmp_path)


def test_a_file_with_two_ids_is_refused_with_both_entries(tmp_path: Path, coco_root: Path) -> None:
    path = coco_root / "annotations" / "val.json"
    path.write_text(path.read_text().replace('"b.jpg"', '"a.jpg"'))
    splits = {name: CocoSplit(images=name, annotations=f"annotations/{name}.json") for name in ("train", "val")}
    config = CocoDataset(name="mine", format="coco", root=str(coco_root), splits=splits)
    with pytest.raises(UserError) as caught:
        prepare(config, tmp_path)
    assert f"{path}, images[0]" in str(caught.value)
    assert f"{path}, images[1]" in str(caught.value)
    kept = prepare(config.model_copy(update={"duplicates": "keep"}), tmp_path)
    assert kept.split("val").image_count == 2
