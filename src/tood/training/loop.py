"""Training loop: steps, history, checkpoints, evaluation, and an orderly stop when asked for."""

import math
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice

from tood.data.batch import Batch
from tood.data.loader import Loader
from tood.data.planned_batches import TrainingPlan
from tood.io.errors import StoppedError, TransientError
from tood.training.job import Clock, Cost, Job, peak_memory
from tood.training.processes.distributed import Agreement
from tood.training.progress import ProgressLine
from tood.training.trainer import Trainer

_SAVING_SHARE = 0.01  # share of the training's time that checkpoints at the ends of epochs may take


class TrainingLoop:
    """One attempt at a job, which continues from its last checkpoint if there is one.

    Writes ``history.csv`` and, below ``state/``, checkpoints; the detector is changed in place. Raises UserError if
    continuing from the last checkpoint would change the result.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.schedule, self.group = job, job.config.schedule, job.group
        self.trainer = trainer = Trainer(job)
        self.clock = Clock(trainer.store.folder / "clock.json")
        if self.group.is_main:
            trainer.store.describe(job.config.science())
            self.clock.start()
        trainer.resume()
        self.agreement = Agreement(self.group)
        self.epochs = -(-trainer.total // trainer.per_epoch)
        """The last of which may be cut short."""
        self.evaluated_after = self._evaluated_after()
        self.progress = ProgressLine(job.config.run, self.epochs, trainer.total, started_step=trainer.step)
        self.progress.evaluated = next(
            (_evaluated(row) for row in reversed(trainer.history.rows) if "val_AP50" in row), "AP50 –"
        )
        self.loss = math.nan
        self.began, self.saving, self.saved = time.monotonic(), 0.0, trainer.step

    def run(self) -> Cost:
        """Train to the end.

        Raises StoppedError, with the state saved, soon after ``job.stop`` was asked for in any process, and UserError
        when the loss is no longer finite.
        """
        trainer = self.trainer
        if trainer.step in self.evaluated_after:
            self.loss = trainer.history.rows[-1]["loss"]
            with self.saved_without_images():
                self.evaluate()  # a checkpoint is written before an evaluation, so the evaluation is still to do
        if trainer.step < trainer.total:
            self.train()
        peak = max(self.group.gather(peak_memory(self.group.device)))
        if self.group.is_main:
            trainer.history.write(self.job.history_file)
            self.clock.keep(peak)
        clock = self.clock
        return Cost(trainer.total, round(clock.seconds(), 3), clock.attempts, clock.peak_memory, trainer.micro_batches)

    def train(self) -> None:
        """The steps that are still to do; the state is saved where images cannot be read for now."""
        job, trainer, schedule, group = self.job, self.trainer, self.schedule, self.group
        plan = TrainingPlan(
            job.dataset,
            batch=schedule.batch,
            seed=job.config.seed,
            rank=group.rank,
            world=group.world,
            group=schedule.group,
        )
        job.detector.train()
        with (
            self.saved_without_images(),
            Loader(job.dataset, plan, job.reading) as loader,
            closing(loader.read(range(trainer.step, trainer.total))) as steps,
        ):
            for epoch in range(trainer.step // trainer.per_epoch, self.epochs):
                end = min((epoch + 1) * trainer.per_epoch, trainer.total)
                self.train_on(islice(steps, end - trainer.step), epoch)

    def train_on(self, steps: Iterable[Sequence[Batch]], epoch: int) -> None:
        """One optimiser step for each, with a row of the history and a checkpoint where they are due."""
        trainer, schedule, group = self.trainer, self.schedule, self.group
        interval_started, interval_step = time.monotonic(), trainer.step
        for batches in steps:
            trainer.train_step(batches, epoch)
            ends_epoch = trainer.step in ((epoch + 1) * trainer.per_epoch, trainer.total)
            is_evaluated = trainer.step in self.evaluated_after
            if trainer.step % trainer.log_every == 0 or ends_epoch or is_evaluated:
                losses = trainer.read_losses(epoch)
                self.loss = losses["loss"]
                now = time.monotonic()
                speed = (trainer.step - interval_step) * schedule.batch / max(1e-9, now - interval_started)
                interval_started, interval_step = now, trainer.step
                trainer.history.add(trainer.row(epoch, losses, speed))
                if self.progress.due():
                    self.show(epoch)
                    if group.is_main:
                        self.clock.keep(peak_memory(group.device))
            stops = self.agreement.any(bool(self.job.stop)) and trainer.step < trainer.total
            due = stops or trainer.step % schedule.checkpoint_every == 0 or trainer.step == trainer.total
            if due or ((ends_epoch or is_evaluated) and self.affordable()):
                self.keep()
            if stops:
                raise self.stopped()
            if is_evaluated:
                self.evaluate()
                if group.is_main:
                    trainer.history.write(self.job.history_file)
                self.job.detector.train()
                interval_started, interval_step = time.monotonic(), trainer.step

    def keep(self) -> None:
        """Write a checkpoint and the history, unless this step's are written already."""
        if self.saved == self.trainer.step:
            return
        started = time.monotonic()
        self.trainer.save()
        self.saving, self.saved = self.saving + time.monotonic() - started, self.trainer.step
        if self.group.is_main:
            self.trainer.history.write(self.job.history_file)
            self.clock.keep(peak_memory(self.group.device))

    def affordable(self) -> bool:
        """Whether a checkpoint besides the periodic ones costs little enough; the main process decides for all."""
        return bool(self.group.broadcast(self.saving <= _SAVING_SHARE * (time.monotonic() - self.began)))

    def _evaluated_after(self) -> frozenset[int]:
        """The steps after which an evaluation follows."""
        schedule, total, per_epoch = self.schedule, self.trainer.total, self.trainer.per_epoch
        if schedule.evaluations is not None:
            after = [round(total * part / schedule.evaluations) for part in range(1, schedule.evaluations + 1)]
        else:
            after = [*range(0, total, schedule.evaluate_every * per_epoch), total]
        return frozenset(after) - {0}

    def evaluate(self) -> None:
        """Add AP, AP50 and AP75 of the val split to the last row of the history."""
        started = time.monotonic()
        try:
            values = self.job.evaluate(self.trainer.result)
        except StoppedError as error:
            if self.group.world > 1:  # the others may wait for this one at the evaluation's end
                raise
            self.keep()
            raise self.stopped() from error
        self.progress.pause(time.monotonic() - started)
        row = self.trainer.history.rows[-1]
        row.update({f"val_{name}": value for name, value in values.items() if value is not None})
        self.progress.evaluated = _evaluated(row)
        self.show((self.trainer.step - 1) // self.trainer.per_epoch)

    def show(self, epoch: int) -> None:
        """Print the line of the live view."""
        self.progress.show(step=self.trainer.step, epoch=epoch, loss=self.loss, batch=self.schedule.batch)

    def stopped(self) -> StoppedError:
        job, trainer = self.job, self.trainer
        return StoppedError(
            f"run '{job.config.run}' was asked to stop ({job.stop.reason or 'another of its processes was'}) and is "
            f"saved after step {trainer.step} of {trainer.total}; repeat the command to continue.",
            job.stop.number or signal.SIGTERM,
        )

    @contextmanager
    def saved_without_images(self) -> Iterator[None]:
        """Save the state where images cannot be read for now, and say so."""
        try:
            yield
        except TransientError as error:
            if self.group.world > 1:  # the others may wait for this one in the next step
                raise
            self.keep()
            trainer = self.trainer
            raise TransientError(
                f"run '{self.job.config.run}' ends, saved after step {trainer.step} of {trainer.total}: {error}"
            ) from error


def _evaluated(row: Mapping[str, float]) -> str:
    if "val_AP50" not in row:
        return "AP50 –"
    return f"AP {row['val_AP']:.3f} AP50 {row['val_AP50']:.3f}"
