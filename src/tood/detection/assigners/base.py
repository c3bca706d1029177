"""Base class of assigners: options, and a function from a training batch to an assignment."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from typing import ClassVar

from tood.config.parts import ASSIGNERS, Part
from tood.detection.assigners.assignment import Assignment
from tood.detection.training_batch import Progress, TrainingBatch


class Assigner(Part, ABC):
    """Base class of assigners: the fields are the options in YAML, :meth:`assign` computes the assignment.

    See docs/adding_a_method.md.
    """

    listed: ClassVar[Mapping[str, str]] = ASSIGNERS
    several_anchors: ClassVar[bool] = False
    """Whether it is defined for several anchors a location."""

    @abstractmethod
    def assign(self, batch: TrainingBatch) -> Assignment:
        """Assign an object to every location; called without gradient and autocast. It must not wait for the device."""

    def program(self, progress: Progress, locations: int) -> Hashable | None:
        """As of a criterion: what the progress changes of the operations and plain numbers of an assignment."""
        return ()
