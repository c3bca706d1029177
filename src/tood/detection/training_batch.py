"""Training batch: predictions, targets and progress of the training, as assigners and criteria get them."""

from dataclasses import dataclass

from torch import Tensor

from tood.detection.predictions import Predictions
from tood.detection.targets import Targets


@dataclass(frozen=True)
class Progress:
    """How far training is: 0-based epoch and step, and the steps of the whole schedule."""

    epoch: int
    step: int
    total_steps: int


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of a step: images that share an orientation and their padding, as those of one GPU where published.

    ``index`` (B,) int64 says which one each of these images belongs to, of ``count`` groups of ``size`` images in the
    step. A group may be spread over processes and micro-batches.
    """

    index: Tensor
    count: int
    size: int


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Predictions for B images and their targets."""

    predictions: Predictions
    targets: Targets
    valid: Tensor
    """(B, N) bool: the locations that take part."""
    progress: Progress
    groups: Groups | None = None
    """Which images belong together; None where these are the step's only group."""

    @property
    def images(self) -> int:
        """Number of images of a group, over processes and micro-batches."""
        return len(self.predictions.boxes) if self.groups is None else self.groups.size

    def group_of(self) -> Tensor:
        """(B,) the group of each image."""
        if self.groups is None:
            return self.targets.labels.new_zeros(len(self.predictions.boxes))
        return self.groups.index
