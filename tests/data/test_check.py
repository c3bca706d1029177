import json
from pathlib import Path

import pytest
from PIL import Image

from tood.config.datasets import (
    CocoDataset,
    CocoSplit,
    DatasetConfig,
    ShapesDataset,
    ShapesSplit,
    VocDataset,
    YoloDataset,
)
from tood.data.check import CheckReport, check_dataset
from tood.data.contact_sheet import sample_grid
from tood.data.findings import Findings, plural
from tood.io.errors import UserError

PARAMS = Path(__file__).parents[2] / "params"
LISTS = {"train": "ImageSets/Main/train.txt", "val": "ImageSets/Main/val.txt"}
SPLITS = {name: CocoSplit(images=name, annotations=f"annotations/{name}.json") for name in ("train", "val")}


def check(config: DatasetConfig, folder: Path) -> CheckReport:
    return check_dataset(config, folder, mirror=None, params_root=PARAMS)


def voc(root: Path) -> VocDataset:
    return VocDataset(name="mine", format="voc", root=str(root), splits=LISTS)


def coco(root: Path) -> CocoDataset:
    return CocoDataset(name="mine", format="coco", root=str(root), splits=SPLITS)


def test_a_sound_data_set_is_summarised(tmp_path: Path, coco_root: Path) -> None:
    report = check(coco(coco_root), tmp_path / "data" / "mine")
    assert report.ok
    assert not report.findings
    assert not (tmp_path / "data").exists(), "a check writes nothing"
    (train, _) = report.splits
    assert (train.images, train.boxes, train.crowds, train.without_objects) == (2, 3, 1, 0)
    assert train.per_class == (2, 1)
    assert train.scales == (2, 1, 0)
    text = "\n".join(report.lines())
    assert "mine (coco): 2 classes, 2 splits" in text
    assert "Nothing to put right." in text
    assert "64x48" in text


def test_notes_do_not_make_it_unsound(tmp_path: Path, voc_root: Path) -> None:
    report = check(voc(voc_root), tmp_path / "mine")
    assert report.ok
    text = "\n".join(report.lines())
    assert "note   b: 1 box without area dropped" in text
    assert "note   split 'val': 1 of 2 images without objects (used as background)" in text
    assert "Nothing to put right; 2 notes." in text


def test_everything_wrong_is_listed_where_prepare_would_stop_at_the_first(tmp_path: Path, coco_root: Path) -> None:
    whole = (coco_root / "train" / "a.jpg").read_bytes()
    (coco_root / "train" / "a.jpg").write_bytes(whole[: len(whole) // 2])
    (coco_root / "train" / "b.jpg").unlink()
    content = json.loads((coco_root / "annotations" / "val.json").read_text())
    content["categories"][0]["name"] = "wolf"
    content["annotations"][0]["bbox"] = [1, 1, -3, 5]
    content["annotations"].append(dict(content["annotations"][1]))
    (coco_root / "annotations" / "val.json").write_text(json.dumps(content))
    report = check(coco(coco_root), tmp_path / "mine")
    assert not report.ok
    text = "\n".join(report.lines())
    for sentence in (
        "(id 3) has the file_name 'b.jpg', but there is no",
        "a.jpg: ends early",
        "1 picture cannot be read",
        "category 5 is 'wolf' here and 'dog' in",
        "annotation id 21 is given twice",
        "a.jpg: 1 box without area dropped",
    ):
        assert sentence in text
    assert "4 errors to put right" in text


def test_repeated_boxes_and_absent_classes_are_noted(tmp_path: Path, coco_root: Path) -> None:
    for split in ("train", "val"):
        path = coco_root / "annotations" / f"{split}.json"
        content = json.loads(path.read_text())
        content["categories"].append({"id": 9, "name": "cow"})
        if split == "val":
            content["annotations"].append({**content["annotations"][0], "id": 99})
        path.write_text(json.dumps(content))
    text = "\n".join(check(coco(coco_root), tmp_path / "mine").lines())
    assert "split 'train': no object of the class cow" in text
    assert "a.jpg: 1 box given twice (same class and place)" in text


def test_empty_splits_are_errors(tmp_path: Path, voc_root: Path) -> None:
    (voc_root / LISTS["val"]).write_text("")
    report = check(voc(voc_root), tmp_path / "mine")
    assert not report.ok
    assert any("split 'val' has no images" in line for line in report.lines())


def test_a_data_set_with_nothing_to_look_at_still_gets_a_report(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    report = check(voc(tmp_path / "empty"), tmp_path / "mine")
    assert not report.ok
    assert "2 errors to put right, 0 notes." in report.lines()
    own = VocDataset(name="mine", format="voc", root=str(tmp_path / "empty"), splits={})
    assert not check(own, tmp_path / "mine").ok
    with pytest.raises(UserError, match="no such folder; correct 'root'"):
        check(voc(tmp_path / "nowhere"), tmp_path / "mine")


def test_the_generated_set_is_sound(tmp_path: Path) -> None:
    splits = {"train": ShapesSplit(images=3, seed=1), "val": ShapesSplit(images=2, seed=2)}
    report = check(ShapesDataset(name="s", format="shapes", size=64, splits=splits), tmp_path / "s")
    assert report.ok
    assert [split.images for split in report.splits] == [3, 2]


def test_the_grid_shows_pictures_of_all_splits_and_passes_over_broken_ones(tmp_path: Path, coco_root: Path) -> None:
    report = check(coco(coco_root), tmp_path / "mine")
    assert sample_grid(report.dataset, tmp_path / "grid.png", count=9) == 4
    with Image.open(tmp_path / "grid.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 4 * 400
        colours = sheet.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert {(230, 159, 0), (86, 180, 233)} <= {colour for _, colour in colours}, "boxes of both classes"
    (coco_root / "train" / "a.jpg").write_bytes(b"broken")
    assert sample_grid(report.dataset, tmp_path / "grid.png", count=9) == 3
    first = (tmp_path / "grid.png").read_bytes()
    sample_grid(report.dataset, tmp_path / "again.png", count=9)
    assert (tmp_path / "again.png").read_bytes() == first
    for path in coco_root.rglob("*.jpg"):
        path.write_bytes(b"broken")
    assert sample_grid(report.dataset, tmp_path / "none.png") == 0
    assert not (tmp_path / "none.png").exists()


def test_many_findings_of_a_kind_are_counted_not_listed() -> None:
    findings = Findings()
    for index in range(50):
        findings.error(f"{index}.jpg", "the image file is missing")
        findings.box("a", "without area dropped")
    lines = findings.sentences("error")
    assert len(lines) == 21
    assert lines[-1] == "30 more of this kind"
    assert findings.sentences("note") == ["a: 50 boxes without area dropped"]
    for index in range(30):
        findings.note("set.json", f"annotation {index} of '{index}' is odd")
    assert findings.sentences("note")[-1] == "10 more of this kind"
    with pytest.raises(UserError, match=r"^0.jpg: the image file is missing \(49 further problems; 'tood data"):
        findings.raise_errors("x")


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "box", "1 box"),
        (2, "box", "2 boxes"),
        (0, "class", "0 classes"),
        (1200, "file", "1,200 files"),
        (2, "entry", "2 entries"),
    ],
)
def test_plurals(count: int, noun: str, text: str) -> None:
    assert plural(count, noun) == text


def test_the_grid_is_drawn_for_a_name_of_two_lines(tmp_path: Path, yolo_root: Path) -> None:
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        (yolo_root / kind / "train" / f"a.{suffix}").rename(yolo_root / kind / "train" / f"a\nb.{suffix}")
    config = YoloDataset(
        name="mine", format="yolo", root=str(yolo_root), splits={"train": "images/train", "val": "images/val"}
    )
    report = check_dataset(config, tmp_path / "data" / "mine", mirror=None, params_root=tmp_path / "params")
    assert sample_grid(report.dataset, tmp_path / "grid.png") == 4
