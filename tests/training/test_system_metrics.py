"""The load of the machine is written while a run trains, where MLflow's settings ask for it."""

import os
import stat
import time
from pathlib import Path

import pytest

from tood.reporting.system_file import read_system
from tood.training.processes.system_metrics import system_metrics

CPU = {"time", "cpu_utilization_percentage", "system_memory_usage_megabytes", "system_memory_usage_percentage"}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "1")
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    return tmp_path / "system.csv"


def measure(file: Path, *, fresh: bool = False) -> list[dict[str, float]]:
    rows = len(list(read_system(file)))
    with system_metrics(file, fresh=fresh):
        for _ in range(40):
            if len(list(read_system(file))) > (0 if fresh else rows):
                break
            time.sleep(0.05)
    return [dict(row) for row in read_system(file)]


def test_nothing_is_written_unless_asked_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("of an earlier training\n")
    monkeypatch.delenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING")
    with system_metrics(file, fresh=True):
        pass
    assert not file.exists()


def test_a_training_that_continues_adds_rows_and_another_begins_anew(file: Path) -> None:
    (row,) = measure(file)
    assert row.keys() == CPU
    assert 0 < row["system_memory_usage_percentage"] < 100
    assert len(measure(file)) == 2
    assert len(measure(file, fresh=True)) == 1


def test_gpus_are_asked_through_nvidia_s_tool(file: Path) -> None:
    tool = file.parent / "tools" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho '93, 40000, 80000, 412.5'\necho '7, 0, 80000, 60.0'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    (row,) = measure(file)
    assert row["gpu_0_utilization_percentage"] == 93
    assert row["gpu_0_memory_usage_megabytes"] == pytest.approx(40000 * 2**20 / 1e6, abs=0.1)
    assert row["gpu_0_memory_usage_percentage"] == 50
    assert row["gpu_1_power_usage_watts"] == 60
    tool.unlink()
    assert all(row.keys() == CPU for row in measure(file)), "another machine's columns begin the file anew"


def test_a_file_that_cannot_be_written_ends_no_training(tmp_path: Path, file: Path, said: list[str]) -> None:
    file.mkdir()
    with system_metrics(file, fresh=False):
        time.sleep(0.2)
    assert said == [f"note: {file} is not written any more ([Errno 21] Is a directory: '{file}')"]
    assert os.listdir(tmp_path) == ["system.csv"]
