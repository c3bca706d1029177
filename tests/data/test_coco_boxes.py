"""Boxes written otherwise than COCO means them are recognised over a file and refused with what they are."""

import json
from pathlib import Path

import numpy as np
import pytest

from tood.config.datasets import CocoDataset, CocoSplit
from tood.data.findings import Findings
from tood.data.formats.reading import read_dataset

SPLITS = {name: CocoSplit(images=name, annotations=f"{name}.json") for name in ("train", "val")}
SIZE = (64, 48)


def write(root: Path, make_image, form: str, *, area: bool, reach: float = 0.8) -> dict[str, np.ndarray]:
    """Two splits of 12 images with 3 boxes each, written in a ``form``; the boxes (N,4) as x, y, w, h."""
    truth = {}
    for seed, split in enumerate(SPLITS):
        rng = np.random.default_rng(seed)
        low = rng.uniform(0, reach, (36, 2)) * SIZE
        wide = np.minimum(rng.uniform(0.1, min(reach, 0.5), (36, 2)) * SIZE, np.array(SIZE) - low)
        boxes = truth[split] = np.hstack([low, wide])
        written = {
            "coco": boxes,
            "corners": np.hstack([low, low + wide]),
            "centres": np.hstack([low + wide / 2, wide]),
            "fractions": boxes / [*SIZE, *SIZE],
        }[form]
        images = []
        for number in range(12):
            make_image(root / split / f"{number}.png", SIZE)
            images.append({"id": number, "file_name": f"{number}.png"})
        annotations = [
            {"id": n + 1, "image_id": n // 3, "category_id": 1, "bbox": list(box)}
            for n, box in enumerate(written.tolist())
        ]
        for entry, size in zip(annotations, wide.prod(1).tolist(), strict=True):
            entry |= {"area": size} if area else {}
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
        (root / f"{split}.json").write_text(json.dumps(content))
    return truth


def read(root: Path, findings: Findings, **fields: object):
    config = CocoDataset(name="mine", format="coco", root=str(root), splits=SPLITS, **fields)
    return read_dataset(config, root, findings)


@pytest.mark.parametrize("area", [True, False])
def test_boxes_of_coco_are_read_as_they_are(tmp_path: Path, make_image, area: bool) -> None:
    truth = write(tmp_path, make_image, "coco", area=area)
    findings = Findings()
    dataset = read(tmp_path, findings)
    assert not findings.errors
    for split in dataset.splits:
        assert np.allclose([box.bbox for box in split.boxes], truth[split.name])


@pytest.mark.parametrize("area", [True, False])
@pytest.mark.parametrize(("form", "word"), [("corners", "corners"), ("centres", "centres"), ("fractions", "fractions")])
def test_other_forms_are_refused_by_name(tmp_path: Path, make_image, form: str, word: str, area: bool) -> None:
    write(tmp_path, make_image, form, area=area)
    findings = Findings()
    read(tmp_path, findings)
    for split in SPLITS:
        (error,) = [one for one in findings.errors if one.where == str(tmp_path / f"{split}.json")]
        assert "bbox" in error.text
        assert word in error.text


def test_whole_pictures_are_no_corners(tmp_path: Path, make_image) -> None:
    write(tmp_path, make_image, "coco", area=False)
    for split in SPLITS:
        path = tmp_path / f"{split}.json"
        content = json.loads(path.read_text())
        for entry in content["annotations"]:
            entry["bbox"] = [0, 0, *SIZE]
        path.write_text(json.dumps(content))
    findings = Findings()
    read(tmp_path, findings, accept=["repeated_boxes"])
    assert not findings.errors


def test_the_place_of_a_file_that_is_elsewhere_is_named(tmp_path: Path, make_image) -> None:
    write(tmp_path, make_image, "coco", area=False)
    path = tmp_path / "train.json"
    path.write_text(path.read_text().replace('"file_name": "', '"file_name": "train/'))
    findings = Findings()
    read(tmp_path, findings)
    first = findings.errors[0]
    assert first.where == str(path)
    for part in ("images[0]", "'train/0.png'", str(tmp_path / "train" / "0.png")):
        assert part in first.text


@pytest.mark.parametrize(
    ("written", "meant"), [("11.PNG", "11.png"), ("11.jpg", "11.png"), ("pictur.png", "picture.png")]
)
def test_the_nearest_file_is_named(tmp_path: Path, make_image, written: str, meant: str) -> None:
    write(tmp_path, make_image, "coco", area=False)
    make_image(tmp_path / "train" / "picture.png", SIZE)
    path = tmp_path / "train.json"
    content = json.loads(path.read_text())
    content["images"][11]["file_name"] = written
    path.write_text(json.dumps(content))
    findings = Findings()
    read(tmp_path, findings)
    assert f"did you mean '{meant}'?" in findings.errors[0].text


def test_a_name_in_another_unicode_form_is_read_as_meant(tmp_path: Path, make_image) -> None:
    write(tmp_path, make_image, "coco", area=False)
    composed, decomposed = "b\u00e4r.png", "ba\u0308r.png"
    (tmp_path / "train" / "11.png").rename(tmp_path / "train" / decomposed)
    path = tmp_path / "train.json"
    path.write_text(path.read_text().replace("11.png", composed))
    findings = Findings()
    dataset = read(tmp_path, findings)
    assert not findings.errors
    assert dataset.splits[0].images[11].file_name == decomposed


def test_corners_in_the_upper_left_are_known_by_their_areas(tmp_path: Path, make_image) -> None:
    write(tmp_path, make_image, "corners", area=True, reach=0.2)
    findings = Findings()
    read(tmp_path, findings)
    assert [error.where for error in findings.errors] == [str(tmp_path / f"{split}.json") for split in SPLITS]
    assert all("corners" in error.text for error in findings.errors)
