"""The first lines of a training: what of the data is used and why not all, and how it is trained."""

from tood.config.schedule import ScheduleConfig, StepsConfig
from tood.config.study import RunConfig, Study
from tood.data.schedule_fit import ScheduleFit
from tood.io.console import run_log
from tood.training.job import Job
from tood.training.optim import base_learning_rate
from tood.training.processes.devices import device_name
from tood.verbs.folders import PARAMS
from tood.verbs.usable_data import UsableData


def say_what_is_used(study: Study, config: RunConfig, used: UsableData) -> None:
    """Log the first lines of a training: images and objects used and left out, with why."""
    log, found = run_log(__name__, config.run), used.targets
    log.info(found.sentence())
    kept = found.emptiness()
    if config.run in study.keeping_background and kept:
        log.info(
            f"keeps {' and '.join(kept)}, which schedule '{config.schedule.name}' leaves out, for the data are your "
            f"own; 'drop_empty: true' in {PARAMS}/datasets/{config.dataset.name}.yaml leaves them out"
        )
    for note in used.notes:
        log.info(note)


def say_how_it_is_trained(job: Job) -> None:
    """Log method, data set, steps, learning rate, number format and devices."""
    config, schedule, fit = job.config, job.config.schedule, job.fit
    log = run_log(__name__, config.run)
    for line in how_it_was_fitted(schedule, fit):
        log.info(line)
    where = f"{job.group.world} x {device_name(job.group.device)}"
    parts = f" in {job.micro_batches} parts" if job.micro_batches and job.micro_batches > 1 else ""
    if schedule.epochs is not None:
        length = f"{schedule.epochs} epochs x {fit.per_epoch} steps"
    else:
        length = f"{fit.fitted.steps:,} steps ({fit.epochs:.1f} epochs)"
    log.info(
        f"{config.method.name} on {config.dataset.name}: {len(job.dataset):,} {_kind(job)}, "
        f"{length} of {schedule.batch} images{parts}, "
        f"learning rate {base_learning_rate(schedule):g} "
        f"({schedule.lr:g} at {schedule.lr_batch} images), {job.precision}, {where}"
    )


def _kind(job: Job) -> str:
    return "images" if job.dataset.targets.tiles is None else "tiles"


def how_it_was_fitted(schedule: ScheduleConfig, fit: ScheduleFit) -> list[str]:
    """Sentences on what the schedule left to the data, and how to decide otherwise."""
    lines = []
    if schedule.images.fit is not None:
        images, rule = fit.fitted.images, schedule.images.fit
        lines.append(
            f"images of {images.short} x {images.long} px: the median object has {fit.typical:.0f} px there, and "
            f"{1 - rule.quantile:.0%} have {fit.small:.0f} or more (schedule.images.fit; or give short and long)"
        )
    if isinstance(schedule.steps, StepsConfig):
        lines.append(
            f"{fit.fitted.steps:,} steps for {fit.images:,} images (schedule.steps: {schedule.steps.least:,} to "
            f"{schedule.steps.most:,}; or give a number)"
        )
    return lines
