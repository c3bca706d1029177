"""Pictures that are annotated but not there: refused with their number, or left out with ``missing: drop``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tood.config.datasets import DatasetConfig
from tood.data.check import check_dataset
from tood.data.findings import SHOWN
from tood.data.made_from import data_state
from tood.data.prepared import content_fingerprint
from tood.io.errors import UserError

from .own_layouts import SPLITS, coco, content_of, prepare, voc, yolo


def listed_yolo(root: Path, **fields: object) -> DatasetConfig:
    """The splits as list files, which name pictures that may be gone."""
    for name in SPLITS:
        if not (root / f"{name}.txt").exists():
            files = sorted(path.relative_to(root).as_posix() for path in (root / "images" / name).glob("*.png"))
            (root / f"{name}.txt").write_text("\n".join(files))
    return yolo(root, splits={name: f"{name}.txt" for name in SPLITS}, **fields)


LAYOUTS = [
    ("coco_root", coco, "train/a.jpg", "train/b.jpg"),
    ("voc_root", voc, "JPEGImages/a.jpg", "JPEGImages/b.jpg"),
    ("yolo_root", listed_yolo, "images/train/b.png", "images/train/a.png"),
]
layouts = pytest.mark.parametrize(("layout", "config", "lost", "other"), LAYOUTS)
Make = Callable[..., DatasetConfig]


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


@pytest.mark.parametrize("field", ["missing", "unreadable"])
def test_only_a_choice_is_part_of_the_fingerprint(
    tmp_path: Path, coco_root: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    """So that data sets that were prepared before there was the field keep theirs."""
    made_by: list[dict[str, object]] = []

    def fingerprint(**content: Any) -> str:
        made_by.append(content["made_by"])
        return content_fingerprint(**content)

    monkeypatch.setattr("tood.data.prepare.content_fingerprint", fingerprint)
    default = prepare(coco(coco_root), tmp_path / "data" / "mine")
    chosen = prepare(coco(coco_root, **{field: "drop"}), tmp_path / "data" / "other")
    assert [one.get(field) for one in made_by] == [None, "drop"]
    assert chosen.fingerprint != default.fingerprint
    assert chosen.content == default.content
