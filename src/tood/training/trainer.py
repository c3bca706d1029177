"""Trainer: the state of a training, one optimiser step, and saving and resuming checkpoints."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tood.data.batch import Batch
from tood.detection.detector import Detector
from tood.detection.training_batch import Progress
from tood.io.console import run_log
from tood.io.errors import UserError, listed
from tood.training.breakdown import Breakdown, write_breakdown
from tood.training.checkpoint import CheckpointStore
from tood.training.ema import averaged
from tood.training.graphed_step import graphed_steps
from tood.training.history import History
from tood.training.job import Job
from tood.training.optim import LearningRate, build_optimiser, set_learning_rate
from tood.training.step import StepLosses, step_gradient

_LOG_ROWS = 200  # about as many history rows as a figure can show
_LOG_STEPS = 50


@dataclass(frozen=True)
class TrainingState:
    """All that a training needs to continue as if it had never stopped."""

    step: int
    data: str
    code: str
    precision: str
    world: int
    micro_batches: int
    layouts: tuple[str, ...]
    """Of the detector in memory; its last digits depend on it. Empty in states of earlier versions."""
    detector: dict[str, Tensor]
    optimiser: dict[str, Any]
    averages: dict[str, Tensor]
    """Of the weights; empty where the schedule averages nothing."""
    means: dict[str, Tensor]
    history: list[dict[str, float]]
    losses: list[Tensor]
    """(steps since the last row of the history, terms) of each process."""

    @classmethod
    def of(cls, kept: Any) -> "TrainingState | None":
        """The state in a checkpoint whose digest is right; None if another version wrote other fields."""
        if not isinstance(kept, dict):
            return None
        kept = {"averages": {}, "layouts": (), **kept}  # earlier versions averaged nothing
        return cls(**kept) if set(kept) == {field.name for field in fields(cls)} else None


class Trainer:
    """One attempt at a job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._log = run_log(__name__, job.config.run)
        schedule = job.config.schedule
        self.device = job.group.device
        job.detector.train()  # wrapping depends on which normalisations learn statistics
        self.graphs = graphed_steps(job)
        during_backward = self.graphs is None  # a graph holds the backward pass, not what processes exchange
        detector = job.detector.on(self.device, training=True)
        self.model: nn.Module = job.group.wrap(detector, during_backward=during_backward)
        self.optimiser = build_optimiser(job.detector, schedule)
        self.averaged = averaged(job.detector, schedule.ema)
        self.per_epoch, self.total = job.fit.per_epoch, job.fit.fitted.steps
        self.rate = LearningRate.of(schedule, self.total, self.per_epoch)
        self.store = CheckpointStore(job.folder / "state", job.config.fingerprint)
        self.history = History()
        self.step = 0
        self.code = json.dumps(dict(job.code), sort_keys=True)
        self.micro_batches = job.micro_batches or 1
        self.log_every = max(1, min(_LOG_STEPS, self.total // _LOG_ROWS))
        self.means: dict[str, Tensor] = {}
        self._names: list[str] = []
        self._losses: list[Tensor] = []
        self._seen: list[Tensor] = []
        self._healthy: list[Tensor] = []
        self._broken = torch.zeros((), device=self.device)
        # The fused optimiser leaves everything as it is from the first step on whose gradient is not finite, so
        # that the weights which led to it are still there when the host looks, some steps later.
        self.optimiser.found_inf = self._broken  # type: ignore[attr-defined]

    def resume(self) -> None:
        """Go on from the newest intact checkpoint, if there is one; UserError where that would change the result."""
        job = self.job
        kept = job.group.broadcast(self.store.load(self._can_continue) if job.group.is_main else None)
        if kept is None:
            return
        state = TrainingState.of(kept)
        assert state is not None  # what another version wrote is not loaded
        if state.step == self.total and state.code != self.code:
            self._log.info("starts anew: it was complete, but the code changed since")
            return
        if state.data not in job.data.training:
            raise UserError(
                f"{self.store.folder}: this training began on other data (the data set changed since); "
                "remove that folder to start anew, or restore the data."
            )
        if state.precision != job.precision:
            raise UserError(
                f"{self.store.folder}: this training began in {state.precision}, but here it would compute in "
                f"{job.precision}; set schedule.precision to '{state.precision}' or remove that folder to start anew."
            )
        self.micro_batches = self._parts_from(state)
        if state.layouts and state.layouts != job.detector.layouts:
            self._log.info("keeps its channels %s and %s in memory, as it began, for its last digits", *state.layouts)
            job.detector.lay_out_as(state.layouts)
            self.averaged = averaged(job.detector, job.config.schedule.ema)
        job.detector.load_state_dict(state.detector)
        self.optimiser.load_state_dict(state.optimiser)
        if self.averaged is not None:
            self.averaged.load(state.averages)
        self.means = {name: mean.to(self.device) for name, mean in state.means.items()}
        self.history = History(state.history)
        self.step = state.step
        losses = state.losses[job.group.rank] if state.world == job.group.world else torch.stack(state.losses).mean(0)
        self._losses = list(losses.to(self.device).unbind())
        self._healthy = [torch.zeros_like(self._broken)] * len(self._losses)
        code = "" if state.code == self.code else ", with code that changed since"
        self._log.info("continues after step %d of %d%s", self.step, self.total, code)

    def _can_continue(self, kept: Any) -> bool:
        """Whether this version wrote the checkpoint, and for the same data also with the same shapes and length."""
        state = TrainingState.of(kept)
        if state is None or state.data not in self.job.data.training:
            return state is not None
        own = self.job.detector.state_dict()
        groups, own_groups = state.optimiser["param_groups"], self.optimiser.state_dict()["param_groups"]
        return (
            0 <= state.step <= self.total
            and {name: value.shape for name, value in state.detector.items()}
            == {name: value.shape for name, value in own.items()}
            and [group["params"] for group in groups] == [group["params"] for group in own_groups]
            and set(state.averages) == set(self.averaged.state() if self.averaged else ())
        )

    def _parts_from(self, state: TrainingState) -> int:
        """Number of micro-batches to continue with, if another number of processes began the training."""
        job, world = self.job, self.job.group.world
        batch = job.config.schedule.batch
        share, at_once = batch // world, batch // (state.world * state.micro_batches)
        together = (job.config.schedule.group or batch) if job.config.method.criterion.over == "group" else 1
        possible = [n for n in range(1, share + 1) if share % n == 0 and share // n % together == 0]
        wanted = min((n for n in possible if share // n <= at_once), default=max(possible))
        parts = job.micro_batches or wanted
        if (world, parts) == (state.world, state.micro_batches):
            return parts
        if world == state.world and job.micro_batches is None and state.micro_batches in possible:
            return state.micro_batches
        why = self._must_stay_as_divided(in_parts=max(parts, state.micro_batches) > 1)
        if why:
            raise UserError(
                f"{self.store.folder}: this training began with {_processes(state.world)} in "
                f"{_parts(state.micro_batches)}, and {why}, so {_processes(world)} in {_parts(parts)} would change its "
                "result; continue it as it began, or remove that folder to start anew."
            )
        if world == state.world:
            change, in_parts = f"in {_parts(parts)} instead of {state.micro_batches}", ""
        else:
            change = f"with {_processes(world)} instead of {state.world}"
            in_parts = f" in {_parts(parts)}" if parts > 1 else ""
        self._log.info(
            "goes on %s: still %d images a step in the same order, %d a process%s", change, batch, share, in_parts
        )
        return parts

    def _must_stay_as_divided(self, in_parts: bool) -> str:
        """The reason why the result depends on which images are computed together; empty if it does not."""
        live = any(isinstance(module, _BatchNorm) and module.training for module in self.job.detector.modules())
        if live and (
            in_parts or self.device.type == "cpu"
        ):  # on GPUs batch normalisation is synchronised over processes
            return "its batch normalisation is over images that are computed together"
        return ""

    @property
    def result(self) -> Detector:
        """The detector that is evaluated and kept: with averaged weights where the schedule averages them."""
        return self.job.detector if self.averaged is None else self.averaged.as_it_is()

    def save(self) -> None:
        """Write a checkpoint; every process has to call it."""
        job = self.job
        terms = torch.stack(self._losses).cpu() if self._losses else torch.zeros(0, len(self._names))
        losses = job.group.gather(terms)
        if not job.group.is_main:
            return
        state = TrainingState(
            step=self.step,
            data=job.data.trained_on,
            code=self.code,
            precision=job.precision,
            world=job.group.world,
            micro_batches=self.micro_batches,
            layouts=job.detector.layouts,
            detector=job.detector.state_dict(),
            optimiser=self.optimiser.state_dict(),
            averages=self.averaged.state() if self.averaged is not None else {},
            means=self.means,
            history=self.history.rows,
            losses=losses,
        )
        self.store.save(self.step, vars(state))

    def train_step(self, batches: Sequence[Batch], epoch: int) -> None:
        """One optimiser step on this process's images; nothing in it waits for the device."""
        schedule = self.job.config.schedule
        set_learning_rate(self.optimiser, self.rate.at(self.step))
        self.optimiser.zero_grad(set_to_none=True)
        found = self._gradient(batches, Progress(epoch=epoch, step=self.step, total_steps=self.total))
        gradients = [p.grad for p in self.job.detector.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if schedule.grad_clip is not None:
            nn.utils.clip_grads_with_norm_(self.job.detector.parameters(), schedule.grad_clip, norm)
        self._broken.copy_(torch.maximum(self._broken, (~norm.isfinite()).to(self._broken.dtype)))
        self.optimiser.step()
        before = self.means
        self.means = {
            name: torch.where(self._broken > 0, before[name], mean) if name in before else mean
            for name, mean in found.means.items()
        }
        self.step += 1
        if self.averaged is not None:
            self.averaged.update(self.step)
        self._names = list(found.losses)
        self._losses.append(torch.stack(list(found.losses.values())))
        self._healthy.append(self._broken.clone())
        self._seen.append(torch.cat([batch.image_ids for batch in batches]))

    def _gradient(self, batches: Sequence[Batch], progress: Progress) -> StepLosses:
        job = self.job
        there = [batch.to(self.device) for batch in batches]
        if self.graphs is not None:
            return self.graphs.gradient(there, progress, micro_batches=self.micro_batches, means=self.means)
        return step_gradient(
            self.model,
            job.criterion,
            [batch.normalised(job.config.backbone.pixels) for batch in there],
            progress,
            group=job.group,
            groups=job.config.schedule.groups,
            precision=job.precision,
            micro_batches=self.micro_batches,
            means=self.means,
        )

    def read_losses(self, epoch: int) -> dict[str, float]:
        """Mean losses since the last call; this waits for the device.

        Raises UserError when a loss or gradient is not finite, after having written what reproduces that step.
        """
        steps = torch.stack(self._losses)
        mean = steps.mean(0)
        if self.job.group.world > 1:
            mean = self.job.group.sum(mean) / self.job.group.world
        *values, broken = torch.cat([mean, self._broken.reshape(1)]).tolist()
        losses = dict(zip(self._names, values, strict=True))
        if broken or not all(math.isfinite(value) for value in values):
            raise self._broke_down(steps, epoch, losses)
        self._losses.clear()
        self._healthy.clear()
        self._seen.clear()
        return {"loss": sum(losses.values()), **losses}

    def _broke_down(self, steps: Tensor, epoch: int, mean: Mapping[str, float]) -> UserError:
        """Find the first step that was not finite, save what reproduces it, and return the error to raise."""
        bad = ~torch.isfinite(steps).all(1) | (torch.stack(self._healthy) > 0)
        first = torch.tensor(self.job.group.gather(int(bad.int().argmax()) if bad.any() else len(steps))).min()
        back = len(steps) - int(first)  # 1 is the last step
        gathered = self.job.group.gather((self._seen[-back].tolist(), steps[-back].tolist()))
        images = [number for ids, _ in gathered for number in ids]
        losses = {name: sum(terms[place] for _, terms in gathered) / len(gathered) for place, name in enumerate(mean)}
        path = self.store.folder / "breakdown.pt"
        if self.job.group.is_main:
            write_breakdown(
                path,
                Breakdown(
                    step=self.step - back,
                    epoch=epoch,
                    image_ids=images,
                    losses=losses,
                    precision=self.job.precision,
                    micro_batches=self.micro_batches * self.job.group.world,
                    detector=self.job.detector.state_dict(),
                    means=self.means,
                ),
            )
        shown = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        names = self.job.dataset.file_names_of(images)
        return UserError(
            f"run '{self.job.config.run}': the loss or its gradient is no longer finite at step "
            f"{self.step - back + 1} ({shown}), whose images were {listed(names)}; look at it with "
            f"'tood replay --run {self.job.folder}', or lower schedule.lr, lengthen schedule.warmup or set "
            "schedule.grad_clip."
        )

    def row(self, epoch: int, losses: Mapping[str, float], speed: float) -> dict[str, float]:
        """A row of the history for the step that was done last."""
        return {
            "step": self.step,
            "epoch": epoch + 1,
            "time": time.time(),
            "lr": self.rate.at(self.step - 1),
            **losses,
            "images_per_second": round(speed, 2),
        }


def _processes(count: int) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"


def _parts(count: int) -> str:
    return "1 part" if count == 1 else f"{count} parts"
