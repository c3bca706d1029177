"""The project reproduces the recorded reference numbers."""

import filecmp
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from cases import PASSING, TRAJECTORIES  # noqa: E402
from reference_check.dispatch import check_case, find_cases  # noqa: E402
from reference_check.rows import Report, table  # noqa: E402
from reference_check.trajectory import check_trajectory  # noqa: E402

EMBEDDED = HERE / "data"
FULL = HERE.parents[1].parent / "shared" / "golden"


def selected() -> list[tuple[Path, str]]:
    """All cases of the full set where it is, and of the embedded one those that are not the same there."""
    full = find_cases(FULL, PASSING) if FULL.is_dir() else []
    embedded = [case for case in find_cases(EMBEDDED, PASSING) if not (case in full and same_files(case))]
    return [*((EMBEDDED, case) for case in embedded), *((FULL, case) for case in full)]


def same_files(case: str) -> bool:
    files = [path.name for path in EMBEDDED.glob(f"{case}*")]
    return filecmp.cmpfiles(EMBEDDED, FULL, files, shallow=False)[0] == files


@pytest.mark.parametrize(
    ("folder", "case"), [pytest.param(f, c, id=f"{f.parent.name}-{f.name}-{c}") for f, c in selected()]
)
def test_reference_numbers(folder: Path, case: str) -> None:
    rows = check_case(folder, case)
    failed = [row for row in rows if not row.passed]
    assert rows
    assert not failed, "\n" + table(failed)


@pytest.mark.skipif(not FULL.is_dir(), reason="the full reference set is not beside this repository")
@pytest.mark.parametrize(
    ("case", "steps"),
    [
        ("trajectory_atss", 8),  # past the warm-up
        ("trajectory_tood", 14),  # past the change of phase
        ("trajectory_pisa_2p", 4),  # two processes, which are two groups here
        *(pytest.param(case, None, marks=pytest.mark.long) for case in TRAJECTORIES),
    ],
)
def test_the_loop_follows_the_reference(case: str, steps: int | None) -> None:
    report = Report(case)
    check_trajectory(FULL, case, report, steps)
    failed = [row for row in report.rows if not row.passed]
    assert {"loss", "gradient norm", "moved", "weight norms"} <= {row.quantity for row in report.rows}
    assert not failed, "\n" + table(failed)


def test_embedded_part_has_every_kind() -> None:
    """A fresh clone tests each listed family: assigners, sizes, each head, a whole detector."""
    stems = find_cases(EMBEDDED, PASSING)
    for family in (
        "tal_assign",
        "atss_assign",
        "resize_shapes",
        "resize_sample",
        "coco_mini*",
        "head_tood*",
        "head_atss",
        "head_gfl",
        "whole*",
    ):
        assert any(fnmatchcase(stem, family) for stem in stems), family


@pytest.mark.skipif(not FULL.is_dir(), reason="the full reference set is not beside this repository")
def test_every_listed_case_exists() -> None:
    for glob in PASSING:
        assert find_cases(FULL, [glob]), glob
