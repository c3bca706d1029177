"""Every file beside the data is used or named as unused."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from tood.config.datasets import CocoDataset, CocoSplit, DatasetConfig, Draw, VocDataset, YoloDataset
from tood.data.check import CheckReport, check_dataset
from tood.data.formats.headers import IMAGE_SUFFIXES
from tood.data.prepare import prepare_dataset

FOLDERS = {"train": "images/train", "val": "images/val"}


def check(config: DatasetConfig, tmp_path: Path) -> CheckReport:
    return check_dataset(config, tmp_path / "data" / "mine", mirror=None, params_root=tmp_path / "params")


def yolo(root: Path) -> YoloDataset:
    return YoloDataset(name="mine", format="yolo", root=str(root), splits=FOLDERS)


def said(report: CheckReport) -> str:
    return "\n".join(finding.sentence() for finding in report.findings)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - {".heic", ".heif", ".hif", ".avifs", ".mpo"}))
def test_every_suffix_is_read_in_every_layout(tmp_path: Path, suffix: str, yolo_root: Path, voc_root: Path) -> None:
    picture = Image.linear_gradient("L").resize((64, 48))
    picture = picture.convert("1" if suffix == ".pbm" else "L" if suffix == ".pgm" else "RGB")
    formats = {".jfif": "JPEG", ".jpe": "JPEG", ".apng": "PNG", ".dib": "BMP"}
    written = tmp_path / f"x{suffix}"
    picture.save(written, format=formats.get(suffix))
    for place in (yolo_root / "images" / "train" / "a.png", voc_root / "JPEGImages" / "a.jpg"):
        place.unlink()
        shutil.copyfile(written, place.with_suffix(suffix.upper()))
    report = check(yolo(yolo_root), tmp_path)
    assert report.ok, said(report)
    assert report.splits[0].images == 2
    assert report.splits[0].boxes == 2
    lists = {"train": "ImageSets/Main/train.txt", "val": "ImageSets/Main/val.txt"}
    report = check(VocDataset(name="mine", format="voc", root=str(voc_root), splits=lists), tmp_path)
    assert report.ok, said(report)
    assert report.splits[0].images == 2


def test_what_lies_beside_a_yolo_set_is_named(tmp_path: Path, yolo_root: Path, make_image) -> None:
    make_image(yolo_root / "images" / "test" / "extra.png")
    (yolo_root / "labels" / "train" / "gone.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (yolo_root / "images" / "train" / "drawing.svg").write_text("<svg/>")
    (yolo_root / "notes.docx").write_bytes(b"x")
    text = said(check(yolo(yolo_root), tmp_path))
    for name in ("extra.png", "gone.txt", "drawing.svg", "notes.docx"):
        assert name in text, name
    prepared = prepare_dataset(
        yolo(yolo_root), tmp_path / "data" / "mine", mirror=None, params_root=tmp_path / "params"
    )
    assert any("gone.txt" in note for note in prepared.notes), "also kept in dataset.json"


def test_labelled_pictures_of_other_kinds_are_refused_by_name(tmp_path: Path, yolo_root: Path) -> None:
    (yolo_root / "images" / "train" / "raw.nef").write_bytes(b"x")
    (yolo_root / "labels" / "train" / "raw.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    report = check(yolo(yolo_root), tmp_path)
    assert [finding.where for finding in report.findings if finding.severity == "error"] == [
        str(yolo_root / "images" / "train" / "raw.nef")
    ]


@pytest.mark.skipif(".heic" in IMAGE_SUFFIXES, reason="the plug-in is there")
def test_pictures_of_phones_are_refused_where_the_plugin_is_missing(tmp_path: Path, yolo_root: Path) -> None:
    (yolo_root / "images" / "val" / "IMG_1.HEIC").write_bytes(b"x")
    report = check(yolo(yolo_root), tmp_path)
    (error,) = [finding for finding in report.findings if finding.severity == "error"]
    assert error.where.endswith("IMG_1.HEIC")
    assert ".heic" in error.text


def test_pictures_no_split_lists_are_named(tmp_path: Path, voc_root: Path, coco_root: Path, make_image) -> None:
    make_image(voc_root / "JPEGImages" / "spare.jpg")
    (voc_root / "Annotations" / "other.xml").write_text("<annotation/>")
    lists = {"train": "ImageSets/Main/train.txt", "val": "ImageSets/Main/val.txt"}
    text = said(check(VocDataset(name="mine", format="voc", root=str(voc_root), splits=lists), tmp_path))
    assert "spare.jpg" in text
    assert "other.xml" in text
    make_image(coco_root / "val" / "spare.png")
    splits = {name: CocoSplit(images=name, annotations=f"annotations/{name}.json") for name in ("train", "val")}
    text = said(check(CocoDataset(name="mine", format="coco", root=str(coco_root), splits=splits), tmp_path))
    assert "spare.png" in text


def test_a_drawn_set_with_mostly_unannotated_pictures_is_refused(tmp_path: Path, voc_root: Path, make_image) -> None:
    for number in range(5):
        make_image(voc_root / "JPEGImages" / f"new{number}.jpg")
    config = VocDataset(name="mine", format="voc", root=str(voc_root), draw=Draw(val=0.25))
    report = check(config, tmp_path)
    assert any("missing_labels" in finding.text for finding in report.findings if finding.severity == "error")
    accepted = check(config.model_copy(update={"accept": ["missing_labels"]}), tmp_path)
    assert accepted.ok
    assert "new4.jpg" in said(accepted)


def test_hidden_pictures_are_named_and_what_a_mac_leaves_is_not(tmp_path: Path, yolo_root: Path, make_image) -> None:
    train = yolo_root / "images" / "train"
    make_image(train / ".hidden.png")
    make_image(train / ".day" / "one.png")
    (train / "._a.png").write_bytes(b"x")
    (train / ".DS_Store").write_bytes(b"x")
    report = check(yolo(yolo_root), tmp_path)
    assert report.ok, said(report)
    assert ".hidden.png" in said(report)
    assert "one.png" in said(report)
    assert "._a.png" not in said(report)
    assert "DS_Store" not in said(report)


def test_a_refused_picture_is_not_said_to_be_unused_as_well(tmp_path: Path, yolo_root: Path) -> None:
    picture = yolo_root / "images" / "train" / "a.png"
    picture.write_bytes(b"x")
    assert said(check(yolo(yolo_root), tmp_path)).count("a.png") == 1
