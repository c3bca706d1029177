"""Load of the machine while a run trains (``system.csv``), where MLflow's own settings ask for it.

A thread asks the operating system, and NVIDIA's tool for the GPUs, every few seconds: what trains is not touched, CUDA
in particular.
"""

import csv
import logging
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

log = logging.getLogger(__name__)

_ASKED, _INTERVAL = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
_SECONDS = 10.0
_PATIENCE = 5.0  # seconds for NVIDIA's tool
_GPU = ("utilization.gpu", "memory.used", "memory.total", "power.draw")
_MIB = 2**20 / 1e6


@contextmanager
def system_metrics(file: Path, *, fresh: bool) -> Iterator[None]:
    """Write a row now and then while the block runs; what is in the file already stays unless it is ``fresh``.

    Nothing is written unless ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING`` is true. Never raises.
    """
    if fresh:
        file.unlink(missing_ok=True)
    if os.environ.get(_ASKED, "").strip().lower() not in ("true", "1"):
        yield
        return
    over = threading.Event()
    sampler = threading.Thread(target=_sample, args=[file, over], name="system-metrics", daemon=True)
    sampler.start()
    try:
        yield
    finally:
        over.set()
        sampler.join(_PATIENCE)


def _sample(file: Path, over: threading.Event) -> None:
    asks_gpus = True
    try:
        psutil.cpu_percent()  # the next call gives the load since this one
        while True:
            gpus = _gpus() if asks_gpus else {}
            asks_gpus = bool(gpus)
            _append(file, {"time": round(time.time(), 3), **_machine(), **gpus})
            if over.wait(_interval()):
                return
    except (OSError, psutil.Error, ValueError) as error:
        log.info("note: %s is not written any more (%s)", file, error)


def _interval() -> float:
    try:
        return max(1.0, float(os.environ.get(_INTERVAL) or _SECONDS))
    except ValueError:
        return _SECONDS


def _machine() -> dict[str, float]:
    """Under MLflow's names."""
    memory = psutil.virtual_memory()
    return {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": round(memory.used / 1e6, 1),
        "system_memory_usage_percentage": memory.percent,
    }


def _gpus() -> dict[str, float]:
    """The same of NVIDIA's GPUs; empty where there are none, or their tool does not answer."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_GPU)}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True).stdout
        rows = [[float(cell) for cell in line] for line in csv.reader(said.splitlines())]
        return {
            f"gpu_{number}_{name}": value
            for number, (load, used, total, power) in enumerate(rows)
            for name, value in (
                ("utilization_percentage", load),
                ("memory_usage_megabytes", round(used * _MIB, 1)),
                ("memory_usage_percentage", round(100 * used / total, 1)),
                ("power_usage_watts", power),
            )
        }
    except (
        OSError,
        subprocess.SubprocessError,
        ValueError,
        ZeroDivisionError,
    ):  # parts of GPUs have no load of their own
        return {}


def _append(file: Path, row: Mapping[str, float]) -> None:
    """Rows of other columns, of another machine, begin the file anew."""
    header = ",".join(row)
    try:
        with file.open(encoding="utf-8") as stream:
            continues = stream.readline().rstrip("\n") == header
    except (FileNotFoundError, UnicodeDecodeError):
        continues = False
    with file.open("a" if continues else "w", encoding="utf-8") as stream:
        stream.write(("" if continues else f"{header}\n") + ",".join(map(str, row.values())) + "\n")
