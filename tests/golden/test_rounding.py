"""The room for rounding: ill-conditioned values get it, no more than they need, and the others get none."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from reference_check.dispatch import check_case  # noqa: E402
from reference_check.heads import GRADIENT  # noqa: E402
from reference_check.outputs import LOGIT  # noqa: E402
from reference_check.rounding import room_for_rounding  # noqa: E402
from reference_check.rows import Report  # noqa: E402

DATA = HERE / "data"
FULL = HERE.parents[1].parent / "shared" / "golden"


class Normalised(nn.Module):
    """Normalises every feature over its values, as group normalisation does with P7."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [nn.functional.group_norm(self.weight * feature, 1) for feature in features]


class Rectified(nn.Module):
    """Sums the positive ones among weighted features."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [(self.weight * feature - 1).relu().sum() for feature in features]


APART, NEARLY_EQUAL = torch.tensor([[[1.0, -1.0]]]), torch.tensor([[[1.0, 1.0001]]])


def normalised_passes(error_apart: float, error_nearly_equal: float) -> bool:
    """The verdict where both pairs are levels of one quantity and their recorded numbers are off by so much."""
    head, features = Normalised(), [APART, NEARLY_EQUAL]
    recorded = head([feature.double() for feature in features])
    expected = [values + error for values, error in zip(recorded, (error_apart, error_nearly_equal), strict=True)]

    def outputs(report: Report, head: nn.Module, features: Sequence[Tensor]) -> None:
        report.compare_all("outputs", head(features), expected, LOGIT)

    report = Report("synthetic")
    with report.with_room(lambda: room_for_rounding(outputs, head, features)):
        outputs(report, head.double(), [feature.double() for feature in features])
    return report.rows[0].passed


def room_of_normalised() -> list[float]:
    def outputs(report: Report, head: nn.Module, features: Sequence[Tensor]) -> None:
        report.compare_all("outputs", head(features), head(features), LOGIT)

    return [float(room.max()) for room in room_for_rounding(outputs, Normalised(), [APART, NEARLY_EQUAL])["outputs"]]


def test_only_ill_conditioned_values_have_room() -> None:
    apart, nearly_equal = room_of_normalised()
    assert apart < LOGIT.absolute / 10
    assert 2 * LOGIT.absolute < nearly_equal < 20 * LOGIT.absolute


def test_the_room_of_one_value_is_not_that_of_another() -> None:
    _, room = room_of_normalised()
    assert normalised_passes(0.0, 0.9 * room)
    assert not normalised_passes(0.0, 10 * room)
    assert not normalised_passes(1.1 * LOGIT.absolute, 0.0)
    assert not normalised_passes(1.1 * LOGIT.absolute, 0.9 * room)


def test_a_rectifier_close_to_zero_may_be_on_either_side() -> None:
    """Its gradient is 1 or 0 then; far from zero it is certain."""

    def gradients(report: Report, head: nn.Module, features: Sequence[Tensor]) -> None:
        torch.stack(head(features)).sum().backward()
        report.compare_all("gradients", [f.grad for f in features], [f.grad for f in features], LOGIT)

    close, far = torch.tensor([1 + 1e-7]), torch.tensor([1.1, 0.9])
    at_close, at_far = room_for_rounding(gradients, Rectified(), [close, far])["gradients"]
    assert at_close.item() >= 1
    assert at_far.max() < LOGIT.absolute / 10


def test_room_is_measured_only_beyond_the_tolerance_and_once() -> None:
    measured = []

    def measure() -> Mapping[str, list[np.ndarray]]:
        measured.append(True)
        return {"x": [np.array([1e-3])]}

    report = Report("synthetic")
    with report.with_room(measure):
        report.compare("x", [1.0], [1.0], LOGIT)
        assert not measured
        report.compare("x", [1.0], [1.0009], LOGIT)
        report.compare("x", [1.0], [1.0011], LOGIT)
    report.compare("x", [1.0], [1.0009], LOGIT)
    assert [row.passed for row in report.rows] == [True, True, False, False]
    assert len(measured) == 1


def failures(folder: Path, stem: str, instance: str, into: Path, errors: Mapping[str, float]) -> set[str]:
    """Quantities of one instance that fail where recorded arrays are off by so much in one value."""
    reference = json.loads((folder / f"{stem}.json").read_text())
    files = reference["instances"][instance]["files"]
    reference["instances"] = {instance: reference["instances"][instance]}
    (into / f"{stem}.json").write_text(json.dumps(reference))
    shutil.copyfile(folder / files["weights"], into / files["weights"])
    with np.load(folder / files["arrays"]) as content:
        arrays = {key: content[key].copy() for key in content.files}
    for key, error in errors.items():
        arrays[key].flat[np.abs(arrays[key]).argmax()] += error
    np.savez(into / files["arrays"], **arrays)
    return {row.quantity for row in check_case(into, stem) if not row.passed}


def test_a_well_conditioned_head_keeps_its_tolerances(tmp_path: Path) -> None:
    """Slightly more than them is too much."""
    with np.load(DATA / "head_atss_empty.npz") as arrays:
        peaks = [float(np.abs(arrays[f"grad_feat_{level}"]).max()) for level in range(5)]
    gradient = 1.1 * (GRADIENT.own_peak * peaks[0] + GRADIENT.common_peak * max(peaks))
    errors = {"cls_score_0": 1.3 * LOGIT.absolute, "centerness_0": 1.3 * LOGIT.absolute, "grad_feat_0": gradient}
    failed = failures(DATA, "head_atss", "empty", tmp_path, errors)
    assert failed == {"empty: cls_score", "empty: centerness", "empty: grad_feat"}


@pytest.mark.skipif(not FULL.is_dir(), reason="the full reference set is not beside this repository")
def test_a_head_with_a_rectifier_at_zero_can_fail(tmp_path: Path) -> None:
    """In P3 of this one an input of 5e-8 may round to zero, which moves the gradient by up to 3.5e-4 nearby."""
    ten_times_the_room = 10 * 7.1e-4
    assert failures(FULL, "head_atss", "b", tmp_path, {"grad_feat_0": ten_times_the_room}) == {"b: grad_feat"}
