"""The check itself: what it selects, what it refuses, and that it can fail."""

import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from check import main  # noqa: E402

DATA = HERE / "data"


def run(folder: Path, *only: str) -> subprocess.CompletedProcess[str]:
    """The check in this process."""
    arguments, said = [str(folder), *(["--only", *only] if only else [])], io.StringIO()
    with redirect_stdout(said):
        status = main(arguments)
    return subprocess.CompletedProcess(arguments, status, said.getvalue(), "")


@pytest.mark.long
def test_it_runs_as_a_command(tal: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "check.py"), str(tal)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == run(tal).stdout


@pytest.fixture
def tal(tmp_path: Path) -> Path:
    """A folder with one case, under a name of its own."""
    for suffix in (".json", ".npz"):
        shutil.copyfile(DATA / f"tal_assign{suffix}", tmp_path / f"tal_assign_other{suffix}")
    return tmp_path


def test_passes_and_prints_a_row_per_quantity(tal: Path) -> None:
    result = run(tal)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "basic: assigned_min_area" in result.stdout
    assert "FAIL" not in result.stdout


def test_a_changed_number_fails(tal: Path) -> None:
    path = tal / "tal_assign_other.npz"
    with np.load(path) as content:
        arrays = {key: content[key].copy() for key in content.files}
    arrays["basic/assigned_min_area"][0] += 1
    np.savez(path, **arrays)
    result = run(tal)
    assert result.returncode == 1
    assert [line for line in result.stdout.splitlines() if "FAIL" in line and "assigned_min_area" in line]


def test_unknown_cases_fail(tmp_path: Path) -> None:
    (tmp_path / "riddle.json").write_text("{}")
    (tmp_path / "versions.json").write_text("{}")
    assert run(tmp_path, "riddle").returncode == 1
    result = run(tmp_path, "versions")
    assert result.returncode == 1
    assert "no reference case" in result.stdout


def test_unknown_kind_of_head_fails(tmp_path: Path) -> None:
    reference = json.loads((DATA / "head_atss.json").read_text())
    reference["kind"] = "oracle"
    (tmp_path / "head_atss.json").write_text(json.dumps(reference))
    result = run(tmp_path)
    assert result.returncode == 1
    assert "oracle" in result.stdout


def test_whatever_breaks_a_case_is_a_row_and_the_others_still_count(tal: Path) -> None:
    """Exceptions of every kind: no arrays, no archive, wrong nesting, an archive cut short."""
    (tal / "tal_assign_a.json").write_text('{"instances": {"x": {}}}')
    (tal / "tal_assign_b.json").write_text('{"instances": {"x": {}}}')
    (tal / "tal_assign_b.npz").write_bytes((tal / "tal_assign_other.npz").read_bytes()[:5000])
    (tal / "tal_assign_c.json").write_text('{"instances": 3}')
    shutil.copyfile(tal / "tal_assign_other.npz", tal / "tal_assign_c.npz")
    (tal / "head_d.json").write_text('{"kind": "ATSSHead", "head_config": null}')
    (tal / "head_e.json").write_bytes(b"\xff\xfe")
    (tal / "resize_shapes_f.json").write_text("[" * 100_000)
    result = run(tal)
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    broken = ["head_d", "head_e", "resize_shapes_f", "tal_assign_a", "tal_assign_b", "tal_assign_c"]
    assert f"failed: {', '.join(broken)}" in result.stdout
    for case in broken:
        assert [line for line in result.stdout.splitlines() if line.startswith(f"{case} ") and line.endswith("FAIL")]
    assert "basic: assigned_min_area" in result.stdout


def test_heads_are_told_by_kind_not_by_name(tmp_path: Path) -> None:
    reference = json.loads((DATA / "head_atss.json").read_text())
    reference["instances"] = {"only": reference["instances"]["empty"]}
    (tmp_path / "tal_assign_in_disguise.json").write_text(json.dumps(reference))
    for name in reference["instances"]["only"]["files"].values():
        shutil.copyfile(DATA / name, tmp_path / name)
    result = run(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "only: f64_total" in result.stdout
