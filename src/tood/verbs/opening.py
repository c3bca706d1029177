"""The first lines of a training: what of the data is used and why not all, and how it is trained."""

from tood.config.study import RunConfig, Study
from tood.data.loader import steps_per_epoch
from tood.data.target_counts import TargetCount
from tood.io.console import run_log
from tood.training.job import Job
from tood.training.optim import base_learning_rate
from tood.training.processes.devices import device_name
from tood.verbs.folders import PARAMS


def say_what_is_used(study: Study, config: RunConfig, found: TargetCount) -> None:
    """Log the first lines of a training: images and objects used and left out, with why."""
    log = run_log(__name__, config.run)
    log.info(found.sentence())
    kept = found.emptiness()
    if config.run in study.keeping_background and kept:
        log.info(
            f"keeps {' and '.join(kept)}, which schedule '{config.schedule.name}' leaves out, for the data are your "
            f"own; 'drop_empty: true' in {PARAMS}/datasets/{config.dataset.name}.yaml leaves them out"
        )


def say_how_it_is_trained(job: Job) -> None:
    """Log method, data set, steps, learning rate, number format and devices."""
    config, schedule = job.config, job.config.schedule
    steps = steps_per_epoch(job.dataset, batch=schedule.batch)
    where = f"{job.group.world} x {device_name(job.group.device)}"
    parts = f" in {job.micro_batches} parts" if job.micro_batches and job.micro_batches > 1 else ""
    run_log(__name__, config.run).info(
        f"{config.method.name} on {config.dataset.name}: {len(job.dataset):,} images, "
        f"{schedule.epochs} epochs x {steps} steps of {schedule.batch} images{parts}, "
        f"learning rate {base_learning_rate(schedule):g} "
        f"({schedule.lr:g} at {schedule.lr_batch} images), {job.precision}, {where}"
    )
