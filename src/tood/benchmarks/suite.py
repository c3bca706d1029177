"""Benchmark suite: which parts to time, with which numeric settings, and the results as JSON."""

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchvision

from tood.benchmarks.export_works import export_works
from tood.benchmarks.group_works import DrawnSteps, group_works
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
from tood.detection.number_format import NumberFormat, number_format
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
    repeats: int
    warmup: int
    drawn: DrawnSteps | None = None
    """For the part ``groups``."""

    @property
    def yardstick_format(self) -> NumberFormat:
        """Of plain backbones: never bf16."""
        return "tf32" if self.setup.precision == "tf32" else "float32"

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
                case "groups":
                    assert self.drawn is not None
                    yield from group_works(self.methods, self.backbone, self.drawn, self.setup)
                case "export":
                    yield from export_works(self.methods, self.backbone, size, self.setup)


def run_suite(suite: Suite, report: Callable[[TimingRow], None]) -> list[TimingRow]:
    """Time every work beside its yardstick; ``report`` gets each row as soon as it is known."""
    device = suite.setup.device
    peak = bf16_peak(device_name(device)) if device.type == "cuda" else None
    rows = []
    with number_format(suite.yardstick_format, suite.setup.device):
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
    with number_format(suite.yardstick_format, suite.setup.device):
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
            "compiled": setup.compiled,
            "contiguous": setup.contiguous,
            "seed": setup.seed,
            "repeats": suite.repeats,
            "warmup": suite.warmup,
            "sizes": {part: vars(suite.sizes.get(part, DEFAULT_SIZES[part])) for part in suite.parts},
        },
        "rows": [row.as_json() for row in rows],
    }
