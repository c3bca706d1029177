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
class TrainingBatch:
    """Predictions for B images and their targets."""

    predictions: Predictions
    targets: Targets
    valid: Tensor
    """(B, N) bool: the locations that take part."""
    progress: Progress
    step_images: int | None = None
    """Images of the whole step, over processes and micro-batches; None where these are all."""

    @property
    def images(self) -> int:
        """Number of images of the whole step, over which divisors are computed."""
        return len(self.predictions.boxes) if self.step_images is None else self.step_images
