"""Scenes of a trial: a few made-up objects, features and a narrow head, small enough to try a method in an instant."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tood.config.method import HeadConfig
from tood.detection.detector import build_head
from tood.detection.heads.parallel import ParallelHead
from tood.detection.heads.task_aligned import TaskAlignedHead
from tood.detection.points import STRIDES, valid_points
from tood.detection.predictions import Predictions
from tood.detection.targets import Targets
from tood.detection.training_batch import Groups, Progress, TrainingBatch

WIDTH = 16
"""Channels of the head, whatever the backbone's: what a loss reaches does not depend on it."""
GROUPS = 4
HEIGHT, LENGTH = 128, 160
"""Pixels of the padded images; the second image is smaller than that."""
SIZES = ((128, 160), (96, 120))
BOXES = (
    ((8.3, 12.1, 41.7, 45.2), (50.4, 16.2, 105.1, 74.6), (18.5, 46.3, 127.2, 124.9), (84.2, 7.6, 97.1, 19.7)),
    ((8.7, 7.4, 76.3, 89.8), (32.6, 40.2, 113.9, 58.5), (4.9, 61.3, 25.2, 92.8), (0.0, 0.0, 0.0, 0.0)),
)
"""From a dozen pixels to most of the image, some of them one over the other; the last slot is empty."""

PER_IMAGE = ("class_logits", "alignment_logits", "quality", "boxes", "deltas", "bins")
"""What a head predicts for each image, as named in ``Predictions``."""


@dataclass(frozen=True, eq=False)
class Scene:
    """Two images, of which a head gets features (B, WIDTH, h, w) of all levels."""

    features: tuple[Tensor, ...]
    """With gradient, so that one can see what reaches neck and backbone."""
    targets: Targets

    @property
    def images(self) -> int:
        return len(self.targets.boxes)

    def batch(self, predictions: Predictions, progress: Progress) -> TrainingBatch:
        """The batch that a criterion gets, as the training step makes it."""
        valid = valid_points(predictions.points, torch.tensor(SIZES))
        groups = Groups(torch.zeros(self.images, dtype=torch.int64), 1, self.images)
        return TrainingBatch(predictions, self.targets, valid, progress, groups)


def alone(batch: TrainingBatch, image: int) -> TrainingBatch:
    """One image of a batch as another process would compute it, of a step with all of them."""
    one, targets = slice(image, image + 1), batch.targets
    values = {name: getattr(batch.predictions, name) for name in PER_IMAGE}
    sliced = {name: value[one] for name, value in values.items() if value is not None}
    return replace(
        batch,
        predictions=replace(batch.predictions, alignment=None, **sliced),
        targets=Targets(targets.boxes[one], targets.labels[one], targets.valid[one]),
        valid=batch.valid[one],
        groups=None if batch.groups is None else replace(batch.groups, index=batch.groups.index[one]),
    )


def scene(number: int, classes: int, *, empty: bool = False) -> Scene:
    """The scene of a ``number``, always the same; ``empty`` has no object and no slot for one."""
    draw = torch.Generator().manual_seed(number)
    features = tuple(
        torch.randn(2, WIDTH, -(-HEIGHT // stride), -(-LENGTH // stride), generator=draw).requires_grad_()
        for stride in STRIDES
    )
    boxes = torch.tensor(BOXES) + number % 2 * torch.tensor([1.7, 0.9, 3.1, 2.3])
    valid = torch.tensor([[True] * 4, [True] * 3 + [False]])
    labels = torch.where(valid, (torch.arange(8).view(2, 4) + number) % classes, 0)
    slots = 0 if empty else 4
    return Scene(features, Targets(boxes[:, :slots], labels[:, :slots], valid[:, :slots]))


def trial_head(config: HeadConfig, classes: int) -> ParallelHead | TaskAlignedHead:
    """The method's head in narrow, with weights that let its outputs vary from place to place.

    Torch's generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        head = build_head(config, num_classes=classes, in_channels=WIDTH, width=WIDTH, norm_groups=GROUPS)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in head.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5, generator=draw)
    return head.train()


def moments(epochs: int, steps: int = 100) -> Sequence[Progress]:
    """First step, quarters and last step of a training of so many epochs."""
    total = epochs * steps
    chosen = sorted({total * part // 4 for part in range(4)} | {total - 1})
    return [Progress(epoch=step // steps, step=step, total_steps=total) for step in chosen]
