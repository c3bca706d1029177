"""Which check a reference file belongs to."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from reference_check.assigners import check_atss, check_task_aligned
from reference_check.evaluation import check_coco
from reference_check.folder import read_json
from reference_check.heads import check_head
from reference_check.rows import Report, Row, UnsupportedError
from reference_check.sizes import check_resize_sample, check_resize_shapes
from reference_check.trajectory import check_trajectory
from reference_check.whole import check_whole

NOT_CASES = ("versions", "whole_inputs", "coco_*_gt", "coco_*_dets")

Check = Callable[[Path, str, Report], None]

_BY_PREFIX: tuple[tuple[str, Check], ...] = (
    ("tal_assign", check_task_aligned),
    ("atss_assign", check_atss),
    ("resize_shapes", check_resize_shapes),
    ("resize_sample", check_resize_sample),
    ("coco_", check_coco),
)


def find_cases(folder: Path, only: Sequence[str]) -> list[str]:
    """Stems of the cases in a folder that match one of the globs, all without any."""
    stems = sorted(path.stem for path in folder.glob("*.json") if not _matches(path.stem, NOT_CASES))
    return [stem for stem in stems if not only or _matches(stem, only)]


def _matches(stem: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(stem, glob) for glob in globs)


def check_case(folder: Path, stem: str) -> list[Row]:
    """All rows of a case; a failing row with a sentence for whatever goes wrong in it, never an exception."""
    report = Report(stem)
    try:
        _check_of(folder, stem)(folder, stem, report)
    except UnsupportedError as error:
        report.fail("case", str(error))
    except Exception as error:  # a reference file may break in any way, and the other cases still count
        report.fail("case", f"broken or unknown format: {type(error).__name__}: {' '.join(str(error).split())}")
    return report.rows


def _check_of(folder: Path, stem: str) -> Check:
    """Heads and whole detectors tell by the ``kind`` inside, whatever they are called; the rest by prefix."""
    content = read_json(folder / f"{stem}.json")
    if isinstance(content, dict) and "kind" in content:
        if "head_config" in content:
            return check_head
        if content["kind"] == "trajectory":
            return check_trajectory
        if "tensors" in content:
            return check_whole
    for prefix, check in _BY_PREFIX:
        if stem.startswith(prefix):
            return check
    raise UnsupportedError("no check knows this case")
