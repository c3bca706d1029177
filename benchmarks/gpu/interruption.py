"""A training on the GPU that is killed and continues."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from gpu.rows import Place, Row

ROOT = Path(__file__).parents[2]
STUDY = """
title: killed
dataset: killed
baseline: atss
common:
  backbone: light
  schedule: quick
  overrides:
    backbone: {weights: none, norm: frozen_statistics}
    schedule: {steps: 36, milestone_shares: [0.7], evaluations: 1, checkpoint_every: 4, warmup: {iterations: 4}}
runs:
  atss: {method: atss}
"""
DATASET = """
format: shapes
size: 96
splits:
  train: {images: 96, seed: 1}
  val: {images: 8, seed: 2}
"""
PATIENCE = 60.0  # seconds


def kill_and_resume(place: Place) -> list[Row]:
    """SIGTERM to the whole process group of a training with loader processes: saved, and continued to the same end."""
    device = "1" if place.device.type == "cuda" else "0"
    with tempfile.TemporaryDirectory(prefix="tood-gpu-") as name:
        folder = Path(name)
        (folder / "params").mkdir()
        for part in (ROOT / "params").iterdir():
            if part.name not in ("studies", "datasets"):
                (folder / "params" / part.name).symlink_to(part)
        for kind, content in (("studies", STUDY), ("datasets", DATASET)):
            (folder / "params" / kind).mkdir()
            (folder / "params" / kind / "killed.yaml").write_text(content)
        _run(folder, "data", "prepare", "killed").wait(PATIENCE)
        train = ("train", "--run", "results/killed/atss", "--gpu", device, "--workers", "2")
        whole = _run(folder, *train)
        rows = [Row("an undisturbed training", "ended" if whole.wait(PATIENCE) == 0 else f"status {whole.returncode}")]
        weights = _weights(folder)
        (folder / "results").rename(folder / "undisturbed")
        killed = _run(folder, *train)
        limit = time.monotonic() + PATIENCE
        while not list(folder.glob("results/killed/atss/state/*/step-*.pt")) and time.monotonic() < limit:
            time.sleep(0.02)
        os.killpg(killed.pid, signal.SIGTERM)
        status = killed.wait(PATIENCE)
        rows.append(Row("status after SIGTERM to all its processes", str(status), "", "143", status == 143))
        again = _run(folder, *train).wait(PATIENCE)
        rows.append(Row("status of its continuation", str(again), "", "0", again == 0))
        found = _weights(folder)
        far = max(float((value.double() - found[key].double()).abs().max()) for key, value in weights.items())
        rows.append(Row("largest difference of a weight to the undisturbed training", far))
    return rows


def _run(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tood.cli.main", *arguments]
    return subprocess.Popen(command, cwd=folder, start_new_session=True)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    content = torch.load(folder / "results/killed/atss/model.pt", weights_only=True, map_location="cpu")
    return dict(content["detector"])
