"""What every assigner is: options, and a function of a batch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from tood.config.parts import ASSIGNERS, Part
from tood.detection.assigners.assignment import Assignment
from tood.detection.training_batch import TrainingBatch


class Assigner(Part, ABC):
    """Derive from it to add an assigner: the fields are its options in YAML, :meth:`assign` is what it does.

    See docs/adding_a_method.md.
    """

    listed: ClassVar[Mapping[str, str]] = ASSIGNERS
    several_anchors: ClassVar[bool] = False
    """Whether it is defined for several anchors a location."""

    @abstractmethod
    def assign(self, batch: TrainingBatch) -> Assignment:
        """The object of every location; called without gradient, in full precision. It must not wait for the device."""
