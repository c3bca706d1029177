"""The training loop: forward, losses, SGD step, history, checkpoints, evaluation."""

import math
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from tood.config.study import RunConfig
from tood.data.dataset import DetectionDataset
from tood.data.loader import Batch, steps_per_epoch, train_batches
from tood.detection.criteria.base import Criterion
from tood.detection.detector import Detector
from tood.detection.training_batch import Progress as Phase
from tood.errors import UserError
from tood.files import read_json, write_json
from tood.training.checkpoint import CheckpointStore
from tood.training.distributed import Group
from tood.training.history import History
from tood.training.optim import build_optimiser, learning_rate, set_learning_rate
from tood.training.progress import Progress
from tood.training.step import step_gradient

_LOG_ROWS = 200  # about as many history rows as a figure can show
_LOG_STEPS = 50

Evaluate = Callable[[], Mapping[str, float | None]]


@dataclass(frozen=True)
class Job:
    """A run ready to train; ``evaluate`` gives AP, AP50 and AP75 on the val split (on every process)."""

    config: RunConfig
    folder: Path
    detector: Detector
    criterion: Criterion
    dataset: DetectionDataset
    data_fingerprint: str
    code: str
    precision: str
    workers: int
    micro_batches: int
    """Equal parts in which each process computes its share of a step; they change memory and speed only."""
    group: Group
    evaluate: Evaluate
    echo: Callable[[str], None]


@dataclass(frozen=True)
class Cost:
    """What a training took, over all its attempts."""

    steps: int
    seconds: float
    attempts: int
    peak_memory_bytes: int


@dataclass
class _Clock:
    """Seconds and attempts, kept on disk so that time lost in a kill is counted too."""

    path: Path
    before: float = 0.0
    attempts: int = 0
    peak_memory: int = 0
    _started: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        if self.path.exists():
            kept = read_json(self.path)
            self.before, self.attempts = float(kept["seconds"]), int(kept["attempts"])
            self.peak_memory = int(kept["peak_memory"])
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


class _Trainer:
    """One attempt at a job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        schedule = job.config.schedule
        self.device = job.group.device
        job.detector.train()  # wrapping depends on which normalisations learn statistics
        self.model: nn.Module = job.group.wrap(job.detector.to(self.device))
        self.optimiser = build_optimiser(job.detector, schedule)
        self.per_epoch = steps_per_epoch(job.dataset, batch=schedule.batch)
        self.total = self.per_epoch * schedule.epochs
        self.store = CheckpointStore(job.folder / "state", job.config.fingerprint)
        self.history = History()
        self.step = 0
        self.log_every = max(1, min(_LOG_STEPS, self.total // _LOG_ROWS))
        self.means: dict[str, Tensor] = {}
        self._losses: list[Tensor] = []
        self._names: list[str] = []

    def resume(self) -> None:
        state = self.job.group.broadcast(self.store.load(self.job.echo) if self.job.group.is_main else None)
        if state is None:
            return
        if state["step"] == self.total and state["code"] != self.job.code:
            self.job.echo(f"{self.job.config.run:<12} starts anew: it was complete, but the code changed since")
            return
        if state["data"] != self.job.data_fingerprint:
            raise UserError(
                f"{self.store.folder}: this training began on other data (the data set changed since); "
                "remove that folder to start anew, or restore the data."
            )
        self.job.detector.load_state_dict(state["detector"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.means = {name: mean.to(self.device) for name, mean in state["means"].items()}
        self.history = History(state["history"])
        self.step = int(state["step"])
        if self.job.group.is_main:
            code = "" if state["code"] == self.job.code else ", with code that changed since"
            self.job.echo(f"{self.job.config.run:<12} continues after step {self.step} of {self.total}{code}")

    def save(self) -> None:
        if self.job.group.is_main:
            self.store.save(
                self.step,
                {
                    "step": self.step,
                    "data": self.job.data_fingerprint,
                    "code": self.job.code,
                    "detector": self.job.detector.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "means": self.means,
                    "history": self.history.rows,
                },
            )

    def train_step(self, batch: Batch, epoch: int) -> None:
        """One optimiser step; nothing in it waits for the device."""
        schedule, group = self.job.config.schedule, self.job.group
        set_learning_rate(self.optimiser, learning_rate(schedule, self.step, epoch))
        self.optimiser.zero_grad(set_to_none=True)
        found = step_gradient(
            self.model,
            self.job.criterion,
            batch.to(self.device),
            Phase(epoch=epoch, step=self.step, total_steps=self.total),
            group=group,
            precision=self.job.precision,
            micro_batches=self.job.micro_batches,
            means=self.means,
        )
        self.means = found.means
        if schedule.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.job.detector.parameters(), schedule.grad_clip)
        self.optimiser.step()
        self.step += 1
        self._names = list(found.losses)
        self._losses.append(torch.stack(list(found.losses.values())))

    def read_losses(self) -> dict[str, float]:
        """Mean losses since the last call; this waits for the device. UserError when they are not finite."""
        values = torch.stack(self._losses).mean(0)
        if self.job.group.world > 1:
            values = self.job.group.sum(values) / self.job.group.world
        self._losses.clear()
        losses = dict(zip(self._names, values.tolist(), strict=True))
        if not all(math.isfinite(value) for value in losses.values()):
            shown = ", ".join(f"{name} {value:g}" for name, value in losses.items())
            raise UserError(
                f"run '{self.job.config.run}': the loss is no longer finite at step {self.step} ({shown}); "
                "lower schedule.lr, lengthen schedule.warmup or set schedule.grad_clip."
            )
        return {"loss": sum(losses.values()), **losses}

    def row(self, epoch: int, losses: Mapping[str, float], speed: float) -> dict[str, float]:
        rate = learning_rate(self.job.config.schedule, self.step - 1, epoch)
        return {
            "step": self.step,
            "epoch": epoch + 1,
            "time": time.time(),
            "lr": rate,
            **losses,
            "images_per_second": round(speed, 2),
        }


def train(job: Job) -> Cost:
    """Train a job to its end, continuing from its last checkpoint if there is one.

    Writes ``history.csv`` as it goes and resume state below ``state/``; the detector is changed in place.
    Raises UserError when the loss is no longer finite.
    """
    trainer = _Trainer(job)
    schedule, group = job.config.schedule, job.group
    clock = _Clock(trainer.store.folder / "clock.json")
    if group.is_main:
        trainer.store.describe(job.config.science())
        clock.start()
    trainer.resume()
    progress = Progress(
        job.config.run,
        schedule.epochs,
        trainer.total,
        job.echo if group.is_main else _silent,
        started_step=trainer.step,
    )
    last_evaluation = next((row for row in reversed(trainer.history.rows) if "val_AP50" in row), None)
    if last_evaluation is not None:
        progress.evaluated = _evaluated(last_evaluation)
    loss = math.nan
    for epoch in range(trainer.step // trainer.per_epoch, schedule.epochs):
        job.detector.train()
        interval_started, interval_step = time.monotonic(), trainer.step
        batches = train_batches(
            job.dataset,
            batch=schedule.batch,
            seed=job.config.seed,
            epoch=epoch,
            rank=group.rank,
            world=group.world,
            workers=job.workers,
            start_step=trainer.step - epoch * trainer.per_epoch,
            pin_memory=group.device.type == "cuda",
        )
        for batch in batches:
            trainer.train_step(batch, epoch)
            ends_epoch = trainer.step == (epoch + 1) * trainer.per_epoch
            if trainer.step % trainer.log_every == 0 or ends_epoch:
                losses = trainer.read_losses()
                loss = losses["loss"]
                now = time.monotonic()
                speed = (trainer.step - interval_step) * schedule.batch / max(1e-9, now - interval_started)
                interval_started, interval_step = now, trainer.step
                trainer.history.add(trainer.row(epoch, losses, speed))
                if progress.due():
                    progress.show(step=trainer.step, epoch=epoch, loss=loss, batch=schedule.batch)
                    if group.is_main:
                        clock.keep(peak_memory(group.device))
            if trainer.step % schedule.checkpoint_every == 0 and not ends_epoch:
                trainer.save()
                if group.is_main:
                    trainer.history.write(job.folder / "history.csv")
        if (epoch + 1) % schedule.evaluate_every == 0 or epoch + 1 == schedule.epochs:
            started = time.monotonic()
            values = job.evaluate()
            progress.pause(time.monotonic() - started)
            defined = {f"val_{name}": value for name, value in values.items() if value is not None}
            trainer.history.rows[-1].update(defined)
            progress.evaluated = _evaluated(trainer.history.rows[-1])
            progress.show(step=trainer.step, epoch=epoch, loss=loss, batch=schedule.batch)
        trainer.save()
        if group.is_main:
            trainer.history.write(job.folder / "history.csv")
            clock.keep(peak_memory(group.device))
    peak = max(group.gather(peak_memory(group.device)))
    if group.is_main:
        trainer.history.write(job.folder / "history.csv")
        clock.keep(peak)
    return Cost(trainer.total, round(clock.seconds(), 3), clock.attempts, clock.peak_memory)


def _evaluated(row: Mapping[str, float]) -> str:
    if "val_AP50" not in row:
        return "AP50 –"
    return f"AP {row['val_AP']:.3f} AP50 {row['val_AP50']:.3f}"


def _silent(_: str) -> None:
    return None
