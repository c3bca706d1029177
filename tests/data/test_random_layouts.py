"""Random data sets in each layout: every box is read as it is, and any one fault is named, nowhere a traceback."""

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tood.data.check import CheckReport, check_dataset

from .random_layouts import FAULTS, Fault, Made, make

SEEDS = st.integers(0, 2**31)
CASES = [(layout, fault) for layout, faults in FAULTS.items() for fault in faults]


def tries(number: int) -> settings:
    return settings(max_examples=number, deadline=None, derandomize=True)


def check(made: Made, tmp_path: Path) -> CheckReport:
    return check_dataset(made.config, tmp_path / "data" / "mine", mirror=None, params_root=tmp_path / "params")


def read_and_compare(layout: str, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = make(Path(folder) / "set", layout, seed)
        report = check(made, Path(folder))
        assert not report.findings, "\n".join(report.lines())
        names = {category.id: category.name for category in report.dataset.categories}
        found = {}
        for split in report.dataset.splits:
            stems = {image.id: Path(image.file_name).stem for image in split.images}
            for box in split.boxes:
                x, y, width, height = box.bbox
                key = (split.name, stems[box.image_id])
                found.setdefault(key, []).append((names[box.category_id], (x, y, x + width, y + height)))
        assert found.keys() == made.truth.keys()
        for key, boxes in made.truth.items():
            assert [name for name, _ in found[key]] == [name for name, _ in boxes]
            for (_, read), (_, written) in zip(found[key], boxes, strict=True):
                assert read == pytest.approx(written, abs=1e-9)


@pytest.mark.parametrize("layout", FAULTS)
@given(seed=SEEDS)
@tries(3)
def test_every_box_is_read_as_it_is(layout: str, seed: int) -> None:
    read_and_compare(layout, seed)


@pytest.mark.long
@pytest.mark.parametrize("layout", FAULTS)
@given(seed=SEEDS)
@tries(12)
def test_every_box_of_many_sets_is_read_as_it_is(layout: str, seed: int) -> None:
    read_and_compare(layout, seed)


def make_and_look_for(layout: str, fault: Fault, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = make(Path(folder) / "set", layout, seed)
        words = fault(made, random.Random(seed))
        text = "\n".join(check(made, Path(folder)).lines())
        for word in words:
            assert word in text, text


@pytest.mark.parametrize(("layout", "fault"), CASES)
@given(seed=SEEDS)
@tries(1)
def test_a_fault_is_named(layout: str, fault: Fault, seed: int) -> None:
    make_and_look_for(layout, fault, seed)


@pytest.mark.long
@pytest.mark.parametrize(("layout", "fault"), CASES)
@given(seed=SEEDS)
@tries(4)
def test_a_fault_of_many_sets_is_named(layout: str, fault: Fault, seed: int) -> None:
    make_and_look_for(layout, fault, seed)
