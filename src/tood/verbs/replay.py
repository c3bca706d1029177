"""``tood replay``: repeat the step at which a training's loss was not finite, as a whole and image by image."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from tood.config.study import RunConfig
from tood.data.batch import Batch
from tood.data.dataset import DetectionDataset
from tood.data.loader import train_batches
from tood.detection.criteria.base import Criterion
from tood.detection.detector import Detector
from tood.detection.training_batch import Progress
from tood.io.errors import UserError, listed
from tood.training.breakdown import Breakdown, read_breakdown
from tood.training.checkpoint import CheckpointStore
from tood.training.processes.distributed import Group
from tood.training.setup import prepare_training
from tood.training.step import step_gradient
from tood.verbs.open_run import open_dataset, run_at

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Computed:
    """Losses and gradient of a step on some images."""

    losses: dict[str, float]
    norm: float
    """Norm of the gradient."""
    broken: list[str]
    """Parameters whose gradient is not finite."""

    def line(self) -> str:
        terms = "  ".join(f"{name} {value:.6g}" for name, value in self.losses.items())
        return f"{terms}  gradient norm {self.norm:.6g}"

    @property
    def finite(self) -> bool:
        return all(math.isfinite(value) for value in (*self.losses.values(), self.norm))


def replay(folder: Path) -> None:
    """Log the losses and the gradient of the step, and those of each of its images alone.

    Computes in one process on the CPU, with the weights from before the step. Raises UserError if the run did not
    break down with the configuration that it has now, or its data changed since.
    """
    config = run_at(folder)
    path = CheckpointStore(folder / "state", config.fingerprint).folder / "breakdown.pt"
    kept = read_breakdown(path)
    setup = prepare_training(config, open_dataset(config.dataset), pretrained=None)
    detector, dataset = setup.detector, setup.dataset
    batches = _images_of(dataset, config, kept, setup.fit.per_epoch)
    if batches is None:
        raise UserError(f"{path}: was left by a training on other data; restore the data set or train the run again.")
    detector.load_state_dict(kept.detector)
    progress = Progress(epoch=kept.epoch, step=kept.step, total_steps=setup.fit.fitted.steps)

    def compute(images: Sequence[Batch], groups: int = 1) -> _Computed:
        return _compute(detector, setup.criterion, images, progress, kept, groups)

    terms = "  ".join(f"{name} {value:.6g}" for name, value in kept.losses.items())
    log.info("step %d, epoch %d, in the training: %s", kept.step + 1, kept.epoch + 1, terms)
    whole = compute(batches, config.schedule.groups)
    log.info("the same step here, in %s: %s", kept.precision, whole.line())
    if whole.broken:
        count = len(list(detector.parameters()))
        log.info(
            "the gradient is not finite in %d of %d parameters: %s", len(whole.broken), count, listed(whole.broken)
        )
    images = [image for batch in batches for image in batch.split(len(batch.images))]
    names = dataset.file_names_of([number for batch in batches for number in batch.image_ids.tolist()])
    for name, image in zip(names, images, strict=True):
        alone = compute([replace(image, group=torch.zeros_like(image.group))])
        mark = " " if alone.finite else "!"
        log.info("%s %s, %d objects: %s", mark, name, int(image.valid.sum()), alone.line())
    if whole.finite:
        log.info("all values are finite here, so the cause is the device or the division into processes")


def _images_of(
    dataset: DetectionDataset, config: RunConfig, kept: Breakdown, per_epoch: int
) -> tuple[Batch, ...] | None:
    """All images of the step; None if the data set now has others there."""
    steps = train_batches(
        dataset,
        batch=config.schedule.batch,
        seed=config.seed,
        epoch=kept.epoch,
        rank=0,
        world=1,
        start_step=kept.step - kept.epoch * per_epoch,
        group=config.schedule.group,
    )
    batches = next(steps, ())
    ids = [number for batch in batches for number in batch.image_ids.tolist()]
    return batches if sorted(ids) == sorted(kept.image_ids) else None


def _compute(
    detector: Detector,
    criterion: Criterion,
    images: Sequence[Batch],
    progress: Progress,
    kept: Breakdown,
    groups: int,
) -> _Computed:
    """Losses and gradient of a step on ``images``; the detector's weights stay what they were."""
    detector.load_state_dict(kept.detector)  # with the running statistics from before the step
    detector.train()
    detector.zero_grad(set_to_none=True)
    alone = Group(0, 1, torch.device("cpu"))
    means = {name: mean.reshape(-1) if groups > 1 else mean.mean().reshape(1) for name, mean in kept.means.items()}
    found = step_gradient(
        detector, criterion, images, progress, group=alone, groups=groups, precision=kept.precision, means=means
    )
    gradients = {name: p.grad for name, p in detector.named_parameters() if p.grad is not None}
    return _Computed(
        losses={name: float(value) for name, value in found.losses.items()},
        norm=float(nn.utils.get_total_norm(gradients.values())),
        broken=[name for name, gradient in gradients.items() if not gradient.isfinite().all()],
    )
