"""Rows of label files are read as what the data set says, or as the one thing they can be, else refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tood.config.datasets import YoloDataset
from tood.data.findings import Findings
from tood.data.formats.records import RawDataset
from tood.data.formats.yolo import read_yolo
from tood.data.formats.yolo_rows import YoloRow, meaning_by_description, meaning_of_rows

FOLDERS = {"train": "images/train", "val": "images/val"}


def numbers(count: int, seed: int = 0) -> np.ndarray:
    """Boxes (count, 4) inside the image: cx, cy, w, h."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(0.05, 0.3, (count, 2))
    return np.hstack([rng.uniform(sizes / 2, 1 - sizes / 2), sizes])


def rows_of(table: np.ndarray) -> list[YoloRow]:
    return [YoloRow(0, tuple(map(float, row))) for row in table]


def with_points(points: int, *, visible: bool) -> np.ndarray:
    """Boxes with keypoints inside them."""
    boxes = numbers(20)
    rng = np.random.default_rng(1)
    columns = [boxes]
    for _ in range(points):
        columns.append(boxes[:, :2] + rng.uniform(-0.45, 0.45, (20, 2)) * boxes[:, 2:])
        if visible:
            columns.append(rng.integers(0, 3, (20, 1)))
    return np.hstack(columns)


def outlines(points: int) -> np.ndarray:
    boxes = numbers(20)
    rng = np.random.default_rng(1)
    return np.hstack([boxes[:, :2] + rng.uniform(-0.5, 0.5, (20, 2)) * boxes[:, 2:] for _ in range(points)])


def test_boxes_outlines_and_keypoints_with_visibility_are_told_apart() -> None:
    assert meaning_of_rows(rows_of(numbers(5))).kind == "box"
    for points in (3, 4, 6):
        assert meaning_of_rows(rows_of(outlines(points))).kind == "polygon"
        assert meaning_of_rows(rows_of(numbers(5)) + rows_of(outlines(points))).kind == "polygon"
    for points in (1, 2, 4, 17):
        meaning = meaning_of_rows(rows_of(with_points(points, visible=True)))
        assert (meaning.kind, meaning.count) == ("pose", 5 + 3 * points)
    assert meaning_of_rows(rows_of(outlines(4)) + rows_of(outlines(6))).kind == "polygon"


@pytest.mark.parametrize("points", [1, 2, 4])
def test_keypoints_none_of_which_is_marked_are_keypoints(points: int) -> None:
    table = np.hstack([numbers(20), np.zeros((20, 3 * points))])
    assert meaning_of_rows(rows_of(table)).kind == "pose"


def test_outlines_that_touch_the_edges_as_if_by_visibilities_are_refused() -> None:
    outline = np.array([[0.2, 0.2, 0.5, 0.1, 0.9, 0.3, 1, 0.6, 0.5, 1]])
    with pytest.raises(ValueError, match=r"rows of 11 numbers.*rows: polygon \| pose"):
        meaning_of_rows(rows_of(outline))


@pytest.mark.parametrize("points", [1, 2, 5])
def test_keypoints_without_visibility_may_be_outlines_and_are_refused(points: int) -> None:
    with pytest.raises(ValueError, match=rf"rows of {5 + 2 * points} numbers.*rows: polygon \| pose"):
        meaning_of_rows(rows_of(with_points(points, visible=False)))


@pytest.mark.parametrize(
    ("column", "guess"),
    [([0.91, 0.4, 0.77], "confidence"), ([1, 2, 17], "track"), ([-0.7, 1.2, 3.1], "angle")],
)
def test_a_sixth_number_is_refused_with_what_it_looks_like(column: list[float], guess: str) -> None:
    table = np.hstack([numbers(3), np.array(column)[:, None]])
    with pytest.raises(ValueError, match=rf"rows of 6 numbers.*{guess}.*rows: box_and_number"):
        meaning_of_rows(rows_of(table))


@given(st.integers(1, 20), st.sampled_from([2, 3]))
def test_the_description_decides(points: int, each: int) -> None:
    meaning = meaning_by_description({"kpt_shape": [points, each]})
    assert meaning is not None
    row = YoloRow(0, (0.5, 0.5, 0.2, 0.4, *[0.5] * (points * each)))
    assert meaning.corners(row) == pytest.approx((0.4, 0.3, 0.6, 0.7))
    with pytest.raises(ValueError, match=f"of {5 + points * each} numbers"):
        meaning.corners(YoloRow(0, (0.5, 0.5, 0.2, 0.4, *[0.5] * (points * each + 1))))


@pytest.mark.parametrize(
    "content", [{"kpt_shape": 17}, {"kpt_shape": [17]}, {"kpt_shape": [0, 3]}, {"task": "classify"}]
)
def test_a_description_that_cannot_be_is_refused_by_field(content: dict) -> None:
    (field,) = content
    with pytest.raises(ValueError, match=f"'{field}'"):
        meaning_by_description(content)


def read(root: Path, **fields: object) -> tuple[RawDataset, Findings]:
    findings = Findings()
    config = YoloDataset(name="mine", format="yolo", root=str(root), splits=FOLDERS, **fields)
    return read_yolo(config, root, findings), findings


def test_the_data_set_of_the_user_decides(yolo_root: Path) -> None:
    labels = yolo_root / "labels" / "train" / "a.txt"
    labels.write_text("0 0.5 0.5 0.25 0.5 0.93\n")
    (yolo_root / "labels" / "val" / "c.txt").write_text("")
    _, findings = read(yolo_root)
    (error,) = findings.errors
    assert error.where == str(labels)
    assert "rows:" in error.text
    dataset, findings = read(yolo_root, rows="box_and_number")
    assert not findings.errors
    assert dataset.splits[0].boxes[0].bbox == (24, 12, 16, 24)


def test_a_keypoint_shape_in_data_yaml_is_followed_and_said(yolo_root: Path) -> None:
    (yolo_root / "data.yaml").write_text("names: [cat, dog]\nkpt_shape: [2, 2]\n")
    for path in (yolo_root / "labels").rglob("*.txt"):
        path.write_text("0 0.5 0.5 0.25 0.5 0.1 0.9 0.9 0.1\n")
    dataset, findings = read(yolo_root)
    assert not findings.errors
    assert {box.bbox for split in dataset.splits for box in split.boxes} == {(24, 12, 16, 24)}
    assert any("keypoints" in note for note in findings.sentences("note"))


def test_lines_are_counted_as_editors_do(yolo_root: Path) -> None:
    labels = yolo_root / "labels" / "train" / "a.txt"
    labels.write_bytes(b"\r\n0 0.5 0.5 0.25 0.5\r\n\r\n0 0.5 0.5\r\n")
    _, findings = read(yolo_root)
    (error,) = findings.errors
    assert error.where == f"{labels} line 4"
