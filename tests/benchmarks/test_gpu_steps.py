"""The steps of ``benchmarks/gpu.sh`` run, on a CPU and small; what they find there means nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
STEPS = ROOT / "benchmarks/gpu/steps.py"
QUICK = ("card", "equality", "determinism")
NAMES = [
    "card", "equality", "kernels", "graphs", "waits", "determinism", "training", "inference", "postprocess", "jitter",
    "interruption", "profile",
]  # fmt: skip
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'benchmarks'}"}


def steps(*arguments: str, status: int = 0) -> str:
    command = [sys.executable, str(STEPS), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK[1:] else pytest.mark.long) for n in NAMES])
def test_a_step_runs_and_keeps_its_rows(name: str, tmp_path: Path) -> None:
    said = steps("run", name, "--out", str(tmp_path), "--device", "cpu", "--small")
    rows = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    assert len(said.splitlines()) >= len(rows) >= 1
    if name in ("equality", "waits", "interruption"):
        assert all(row["ok"] is not False for row in rows), rows
    if name == "determinism":
        assert {row["value"] for row in rows} == {"equal bits"}


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    assert [line.split()[0] for line in steps("list").splitlines()] == NAMES
    (tmp_path / "card.json").write_text('{"seconds": 1, "rows": [{"what": "card", "value": "made up"}]}')
    said = steps("table", "--out", str(tmp_path), status=1)
    assert "| card | made up" in said
    assert said.count("NOT MEASURED") == len(NAMES) - 1
    assert json.loads((tmp_path / "gpu.json").read_text())["training"] is None


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), str(tmp_path)]
    given = {**os.environ, "STEPS": "card", "PYTHON": sys.executable}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "PyTorch sees no GPU here" in done.stderr
