"""The training loop: steps, history, checkpoints, evaluation, and an end when it is asked for."""

import math
import signal
import time
from collections.abc import Mapping

from tood.data.loader import train_batches
from tood.io.errors import StoppedError
from tood.training.job import Clock, Cost, Job, peak_memory
from tood.training.processes.distributed import Agreement
from tood.training.progress import ProgressLine
from tood.training.trainer import Trainer

_SAVING_SHARE = 0.01  # of the training's time, for checkpoints at the ends of epochs


def train(job: Job) -> Cost:
    """Train a job to its end, continuing from its last checkpoint if there is one.

    Writes ``history.csv`` as it goes and resume state below ``state/``; the detector is changed in place. Raises
    StoppedError, with its state saved, soon after ``job.stop`` was asked for in any process, and UserError when the
    loss is no longer finite.
    """
    trainer = Trainer(job)
    schedule, group = job.config.schedule, job.group
    clock = Clock(trainer.store.folder / "clock.json")
    if group.is_main:
        trainer.store.describe(job.config.science())
        clock.start()
    trainer.resume()
    agreement = Agreement(group)
    progress = ProgressLine(job.config.run, schedule.epochs, trainer.total, started_step=trainer.step)
    progress.evaluated = next(
        (_evaluated(row) for row in reversed(trainer.history.rows) if "val_AP50" in row), "AP50 –"
    )
    loss = math.nan
    began, saving, saved = time.monotonic(), 0.0, trainer.step

    def keep() -> None:
        nonlocal saving, saved
        if saved == trainer.step:
            return
        started = time.monotonic()
        trainer.save()
        saving, saved = saving + time.monotonic() - started, trainer.step
        if group.is_main:
            trainer.history.write(job.folder / "history.csv")
            clock.keep(peak_memory(group.device))

    def affordable() -> bool:
        """Whether checkpoints besides the periodic ones cost little enough; the main process decides for all."""
        return bool(group.broadcast(saving <= _SAVING_SHARE * (time.monotonic() - began)))

    def evaluate(epoch: int) -> None:
        started = time.monotonic()
        try:
            values = job.evaluate()
        except StoppedError as error:
            if group.world > 1:  # the others may be at the evaluation's end, where they wait for this one
                raise
            keep()
            raise _stopped(job, trainer) from error
        progress.pause(time.monotonic() - started)
        trainer.history.rows[-1].update({f"val_{name}": value for name, value in values.items() if value is not None})
        progress.evaluated = _evaluated(trainer.history.rows[-1])
        progress.show(step=trainer.step, epoch=epoch, loss=loss, batch=schedule.batch)

    def evaluates(epoch: int) -> bool:
        return (epoch + 1) % schedule.evaluate_every == 0 or epoch + 1 == schedule.epochs

    done, rest = divmod(trainer.step, trainer.per_epoch)
    if done and not rest and evaluates(done - 1):
        loss = trainer.history.rows[-1]["loss"]
        evaluate(done - 1)  # checkpoints are written before an evaluation, which may take long
    for epoch in range(done, schedule.epochs):
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
                losses = trainer.read_losses(epoch)
                loss = losses["loss"]
                now = time.monotonic()
                speed = (trainer.step - interval_step) * schedule.batch / max(1e-9, now - interval_started)
                interval_started, interval_step = now, trainer.step
                trainer.history.add(trainer.row(epoch, losses, speed))
                if progress.due():
                    progress.show(step=trainer.step, epoch=epoch, loss=loss, batch=schedule.batch)
                    if group.is_main:
                        clock.keep(peak_memory(group.device))
            stops = agreement.any(bool(job.stop)) and trainer.step < trainer.total
            due = stops or trainer.step % schedule.checkpoint_every == 0 or trainer.step == trainer.total
            if due or (ends_epoch and affordable()):
                keep()
            if stops:
                raise _stopped(job, trainer)
        if evaluates(epoch):
            evaluate(epoch)
            if group.is_main:
                trainer.history.write(job.folder / "history.csv")
    peak = max(group.gather(peak_memory(group.device)))
    if group.is_main:
        trainer.history.write(job.folder / "history.csv")
        clock.keep(peak)
    return Cost(trainer.total, round(clock.seconds(), 3), clock.attempts, clock.peak_memory, trainer.micro_batches)


def _stopped(job: Job, trainer: Trainer) -> StoppedError:
    return StoppedError(
        f"run '{job.config.run}' was asked to stop ({job.stop.reason or 'another of its processes was'}) and is saved "
        f"after step {trainer.step} of {trainer.total}; repeat the command to continue.",
        job.stop.number or signal.SIGTERM,
    )


def _evaluated(row: Mapping[str, float]) -> str:
    if "val_AP50" not in row:
        return "AP50 –"
    return f"AP {row['val_AP']:.3f} AP50 {row['val_AP50']:.3f}"
