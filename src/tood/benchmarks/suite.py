"""Benchmark suite: which parts to time, with which numeric settings, and the results as JSON."""

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torchvision

from tood.benchmarks.peaks import bf16_peak
from tood.benchmarks.random_scenes import SceneSize
from tood.benchmarks.timing import Work, time_in_turns
from tood.benchmarks.timing_table import TimingRow
from tood.benchmarks.workloads import (
    DEFAULT_SIZES,
    Part,
    Setup,
    assignment_works,
    inference_works,
    postprocess_works,
    training_works,
)
from tood.config.backbone import BackboneConfig
from tood.config.method import MethodConfig
from tood.config.schedule import ScheduleConfig
from tood.io.errors import UserError
from tood.training.processes.devices import device_name


@dataclass(frozen=True)
class Suite:
    """What to time."""

    parts: tuple[Part, ...]
    methods: list[MethodConfig]
    against: MethodConfig | None
    """The yardstick of whole detectors, a plain backbone where there is none."""
    backbone: BackboneConfig
    schedule: ScheduleConfig
    """Of the optimiser only."""
    sizes: dict[Part, SceneSize]
    setup: Setup
    tf32: bool
    repeats: int
    warmup: int

    def works(self) -> Iterator[Work]:
        """Workloads one after the other, so that only one detector takes memory at a time."""
        for part in self.parts:
            size = self.sizes.get(part, DEFAULT_SIZES[part])
            match part:
                case "training":
                    yield from training_works(
                        self.methods, self.against, self.backbone, self.schedule, size, self.setup
                    )
                case "inference":
                    yield from inference_works(self.methods, self.against, self.backbone, size, self.setup)
                case "assignment":
                    yield from assignment_works(size, self.setup)
                case "postprocess":
                    yield from postprocess_works(size, self.setup)


def run_suite(suite: Suite, report: Callable[[TimingRow], None]) -> list[TimingRow]:
    """Time every work beside its yardstick; ``report`` gets each row as soon as it is known."""
    device = suite.setup.device
    peak = bf16_peak(device_name(device)) if device.type == "cuda" else None
    rows = []
    with _tf32(suite.tf32):
        for work in suite.works():
            row = TimingRow(work, time_in_turns(work, device, repeats=suite.repeats, warmup=suite.warmup), peak)
            report(row)
            rows.append(row)
    return rows


def check_syncs(suite: Suite) -> Iterator[str]:
    """Run a training step of every method in which a wait for the GPU is an error; yields the methods' names.

    Steps before it create what is created once (locations, the optimiser's state, compiled code). Raises UserError
    for a step that waits.
    """
    with _tf32(suite.tf32):
        for work in suite.works():
            for _ in range(max(2, suite.warmup)):
                work.run()
            torch.cuda.synchronize(suite.setup.device)
            torch.cuda.set_sync_debug_mode("error")
            try:
                work.run()
            except RuntimeError as error:
                if "synchronizing" not in str(error):
                    raise
                raise UserError(
                    f"--sync-check: a training step of {work.name} waits for the GPU; --debug shows where."
                ) from error
            finally:
                torch.cuda.set_sync_debug_mode("default")
            yield work.name


def as_json(suite: Suite, rows: Sequence[TimingRow]) -> dict[str, Any]:
    """Machine, settings and rows."""
    setup = suite.setup
    return {
        "machine": {
            "device": device_name(setup.device),
            "cpu_threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
        "settings": {
            "precision": setup.precision,
            "tf32": suite.tf32,
            "compiled": setup.compiled,
            "contiguous": setup.contiguous,
            "seed": setup.seed,
            "repeats": suite.repeats,
            "warmup": suite.warmup,
            "sizes": {part: vars(suite.sizes.get(part, DEFAULT_SIZES[part])) for part in suite.parts},
        },
        "rows": [row.as_json() for row in rows],
    }


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Let convolutions and matrix products of float32 use TF32 on GPUs that have it, or not."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32" if allowed else "ieee"
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
