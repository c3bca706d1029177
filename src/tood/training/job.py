"""Training job: the inputs of a training, and its cost (time, attempts, peak memory)."""

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import Field, ValidationError

from tood.config.base import PlainNumbers
from tood.config.study import RunConfig
from tood.data.dataset import DetectionDataset
from tood.data.loader import Reading
from tood.data.prepared import DataDigests
from tood.data.schedule_fit import ScheduleFit
from tood.detection.criteria.base import Criterion
from tood.detection.detector import Detector
from tood.io.errors import UserError
from tood.io.read import read_json
from tood.io.write import remove, write_json
from tood.training.processes.distributed import Group
from tood.training.processes.stopping import StopRequest

Evaluate = Callable[[Detector], Mapping[str, float | None]]


@dataclass(frozen=True)
class Job:
    """A run ready to train; ``evaluate`` gives AP, AP50 and AP75 of a detector on the val split (on every process)."""

    config: RunConfig
    """With its schedule fitted to the data."""
    fit: ScheduleFit
    folder: Path
    detector: Detector
    criterion: Criterion
    dataset: DetectionDataset
    data: DataDigests
    code: Mapping[str, str]
    """Digests of the modules that train it."""
    precision: str
    reading: Reading
    micro_batches: int | None
    """Equal parts in which each process computes its share of a step; they change memory and speed only.

    None means one, or if a training continues on fewer processes, as many as keep the memory of each process.
    """
    group: Group
    evaluate: Evaluate
    stop: StopRequest

    @property
    def history_file(self) -> Path:
        """``history.csv``; beside the checkpoints while the run's folder holds the results of an earlier training."""
        is_finished = (self.folder / "train.json").is_file()
        return (self.folder / "state" / self.config.fingerprint if is_finished else self.folder) / "history.csv"


@dataclass(frozen=True)
class Cost:
    """Cost of a training, over all its attempts."""

    steps: int
    seconds: float
    attempts: int
    peak_memory_bytes: int
    micro_batches: int


class _ClockRecord(PlainNumbers):
    """``clock.json``."""

    seconds: float = Field(ge=0)
    attempts: int = Field(ge=0)
    peak_memory: int = Field(ge=0)


@dataclass
class Clock:
    """Seconds and attempts, kept on disk so that time before a kill is counted too."""

    path: Path
    before: float = 0.0
    attempts: int = 0
    peak_memory: int = 0
    _started: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """Continue from ``clock.json``, or from zero if it is damaged, since these numbers are for information only."""
        try:
            kept = _ClockRecord.model_validate(read_json(self.path))
        except (UserError, ValidationError):
            remove(self.path)
        else:
            self.before, self.attempts, self.peak_memory = kept.seconds, kept.attempts, kept.peak_memory
        self.attempts += 1
        self.keep()

    def seconds(self) -> float:
        return self.before + time.monotonic() - self._started

    def keep(self, peak_memory: int = 0) -> None:
        self.peak_memory = max(self.peak_memory, peak_memory)
        kept = {"seconds": round(self.seconds(), 3), "attempts": self.attempts, "peak_memory": self.peak_memory}
        write_json(self.path, kept)


def peak_memory(device: torch.device) -> int:
    """Bytes at the peak: of the GPU's allocator, or resident in this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
