"""A study of tiny runs on generated shapes, and the commands that train them."""

import csv
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from forked_command import ForkedCommand

from tood.training.processes.stopping import StopRequest

ROOT = Path(__file__).parents[2]
STUDY = {
    "title": "tiny",
    "dataset": "tiny",
    "baseline": "atss",
    "common": {"backbone": "tiny", "schedule": "tiny"},
    "runs": {
        "atss": {"method": "atss"},
        "gfl": {"method": "gfl"},
        "noisy": {"method": "noisy_anchor"},
        "pisa": {"method": "pisa"},
        "paa": {"method": "paa"},
        "free_anchor": {"method": "free_anchor"},
        "tood": {
            "method": "tood",
            "overrides": {"method": {"criterion": {"warmup_epochs": None, "warmup_share": 0.5}}},
        },
    },
}
DATASET = {
    "format": "shapes",
    "size": 64,
    "splits": {"train": {"images": 24, "seed": 1}, "val": {"images": 6, "seed": 2}},
}
# Group normalisation aside, nothing depends on the batch: statistics are frozen, so processes may share it.
BACKBONE = {
    "kind": "light",
    "weights": "none",
    "first_stage_width": 8,
    "width": 32,
    "norm_groups": 8,
    "norm": "frozen_statistics",
    "frozen_stages": 0,
}
SCHEDULE = {
    "epochs": 3,
    "milestones": [2],
    "batch": 4,
    "lr": 0.01,
    "lr_batch": 4,
    "warmup": {"iterations": 4, "ratio": 0.1},
    "grad_clip": 10.0,
    "images": {"short": 64, "long": 64},
    "evaluate_every": 3,
    "checkpoint_every": 2,
}
EIGHT = {"epochs": 8, "evaluate_every": 8}
"""Changes of the schedule for tests that need time while a training goes on."""


def tood(folder: Path, *arguments: str, status: int = 0) -> str:
    ended, said = ForkedCommand(folder, "tood", *arguments).end()
    assert ended == status, said
    assert "Traceback" not in said
    return said


def make_project(folder: Path, **schedule: Any) -> None:
    """The tiny study's params, with changes of its schedule, and its data."""
    shutil.copytree(ROOT / "params", folder / "params")
    for path, content in {
        "studies/tiny": STUDY,
        "datasets/tiny": DATASET,
        "backbones/tiny": BACKBONE,
        "schedules/tiny": {**SCHEDULE, **schedule},
    }.items():
        (folder / "params" / f"{path}.yaml").write_text(yaml.safe_dump(content))
    tood(folder, "data", "prepare", "tiny")


def train(folder: Path, run: str, *more: str, status: int = 0) -> str:
    return tood(folder, *training(run, *more), status=status)


def start(folder: Path, run: str, *more: str, **environment: str) -> ForkedCommand:
    """A training that goes on while the test does."""
    return ForkedCommand(folder, "tood", *training(run, *more), **environment)


def training(run: str, *more: str) -> tuple[str, ...]:
    return ("train", "--run", f"results/tiny/{run}", "--gpu", "0", "--threads", "1", *more)


def checkpoints(folder: Path, run: str = "atss") -> list[Path]:
    return sorted((folder / "results/tiny" / run / "state").glob("*/step-*.pt"))


def interrupt(folder: Path, run: str) -> None:
    """Train ``run`` until it has a checkpoint, and kill it."""
    process = start(folder, run)
    wait_for(lambda: bool(checkpoints(folder, run)))
    process.kill()
    assert not (folder / "results/tiny" / run / "model.pt").exists(), "the run ended before it could be killed"


def reschedule(folder: Path, **changes: object) -> None:
    (folder / "params/schedules/tiny.yaml").write_text(yaml.safe_dump({**SCHEDULE, **changes}))


EXPLODES = {"lr": 1e12, "grad_clip": None, "warmup": {"iterations": 0}}
"""Changes of a schedule with which the loss does not stay finite."""


def weights(folder: Path, run: str) -> dict[str, torch.Tensor]:
    content = torch.load(folder / "results/tiny" / run / "model.pt", weights_only=True)
    return dict(content["detector"])


def history(folder: Path, run: str) -> list[dict[str, str]]:
    with (folder / "results/tiny" / run / "history.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    return [{key: value for key, value in row.items() if key not in ("time", "images_per_second")} for row in rows]


def workers_in(folder: Path) -> list[int]:
    """Processes other than this one that work in ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if (entry / "cwd").resolve() == folder.resolve():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def listening_at(folder: Path) -> set[str]:
    """Addresses at which processes that work in ``folder`` accept connections."""
    found: set[str] = set()
    for pid in workers_in(folder):
        with suppress(psutil.Error):
            sockets = psutil.Process(pid).net_connections(kind="inet")
            found |= {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN}
    return found


def wait_for(happened: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.05)


def stop_after(looks: int) -> Callable[..., object]:
    """In the place of ``stop_requests``: asks to stop when it is looked at so often."""

    class Counting(StopRequest):
        looks = 0

        def __bool__(self) -> bool:
            self.looks += 1
            if self.looks == looks:
                self.make(15, "SIGTERM")
            return super().__bool__()

    @contextmanager
    def requests(_: Callable[[StopRequest], None]) -> Iterator[StopRequest]:
        yield Counting()

    return requests
