"""What most images share is an error with its cause; what few have is a note; the user may accept it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tood.config.datasets import SharedKind, VocDataset, YoloDataset
from tood.data.findings import Findings
from tood.data.formats.reading import read_dataset

from .conftest import ImageMaker, voc_xml


@pytest.fixture
def write_yolo(tmp_path: Path, make_image: ImageMaker) -> Callable[[dict[int, str | None]], Path]:
    """Ten images a split with a box each, or another text (None: no file) for some numbers."""

    def write(texts: dict[int, str | None]) -> Path:
        for split in ("train", "val"):
            for number in range(10):
                make_image(tmp_path / "images" / split / f"{number}.png")
                text = texts.get(number, "0 0.5 0.5 0.2 0.2\n")
                path = tmp_path / "labels" / split / f"{number}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                if text is not None:
                    path.write_text(text)
        (tmp_path / "data.yaml").write_text("names: [cat]\n")
        return tmp_path

    return write


def read(root: Path, accept: list[SharedKind]) -> Findings:
    findings = Findings()
    splits = {"train": "images/train", "val": "images/val"}
    read_dataset(YoloDataset(name="mine", format="yolo", root=str(root), splits=splits, accept=accept), root, findings)
    return findings


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("missing_labels", None),
        ("beyond_edge", "0 0.9 0.5 0.6 0.2\n"),
        ("outside_image", "0 0.5 0.5 0.2 0.2\n0 1.8 0.5 0.2 0.2\n"),
        ("no_area", "0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0 0.2\n"),
        ("below_pixel", "0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.001 0.001\n"),
        ("repeated_boxes", "0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n"),
    ],
)
def test_the_share_decides(write_yolo: Callable, kind: SharedKind, text: str | None) -> None:
    root = write_yolo(dict.fromkeys(range(6), text))
    errors = read(root, []).errors
    assert [error.where for error in errors] == ["split 'train'", "split 'val'"]
    assert all("6 of 10 images" in error.text and f"accept: [{kind}]" in error.text for error in errors)
    assert not read(root, [kind]).errors


def test_few_are_noted(write_yolo: Callable) -> None:
    findings = read(write_yolo(dict.fromkeys(range(4), "0 0.9 0.5 0.6 0.2\n")), [])
    assert not findings.errors
    assert sum("reaching over the edge" in note for note in findings.sentences("note")) == 8


@pytest.mark.parametrize(
    ("annotated", "words"), [((128, 96), "scaled by 0.5"), ((48, 64), "swapped"), ((70, 48), "other")]
)
def test_sizes_that_differ_everywhere_are_explained(
    tmp_path: Path, make_image: ImageMaker, annotated: tuple[int, int], words: str
) -> None:
    for number in range(6):
        make_image(tmp_path / "JPEGImages" / f"{number}.jpg")
        path = tmp_path / "Annotations" / f"{number}.xml"
        path.parent.mkdir(exist_ok=True)
        size = (annotated[0] + 7 * number, annotated[1]) if words == "other" else annotated
        path.write_text(voc_xml([("cat", (4, 5, 20, 30))], size))
    for name, members in (("train", "0\n1\n2\n"), ("val", "3\n4\n5\n")):
        (tmp_path / f"{name}.txt").write_text(members)
    findings = Findings()
    splits = {"train": "train.txt", "val": "val.txt"}
    config = VocDataset(name="mine", format="voc", root=str(tmp_path), splits=splits)
    read_dataset(config, tmp_path, findings)
    assert findings.errors
    assert all(words in error.text and "other_size" in error.text for error in findings.errors)
