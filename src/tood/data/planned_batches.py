"""Which images the batches of every step have, planned from the annotations alone, and making them in any process.

Steps are counted over the whole training, and what one has is a pure function of its number. So processes that make
batches need to be told nothing but numbers, and k processes together compute on exactly the pixels that a single one
would.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tood.data.augmentation import Visit
from tood.data.batch import Batch, collate
from tood.data.dataset import DetectionDataset, Sample
from tood.data.epoch_plan import EpochPlan, plan_epoch, steps_per_epoch
from tood.data.input_sizes import padded_size
from tood.data.padded_sizes import padded_sizes_for
from tood.io.errors import UserError, listed

Visits = list[tuple[int, Visit]]
"""Positions in the data set, and when each is looked at."""


@dataclass(frozen=True)
class PlannedBatch:
    """Images that are padded to fit all ``beside`` them: of a group, of which a process may compute a share."""

    visits: Visits
    beside: Visits
    """Of which at least one is among ``visits``."""
    group: int = 0
    """Number in the step."""


class Plan(Protocol):
    """Says what is read, one step after the other."""

    def step(self, number: int) -> list[PlannedBatch]:
        """The batches of a 0-based step."""

    def padded(self, width: int, height: int) -> tuple[int, int]:
        """The size that inputs of at most this size are padded to."""


class TrainingPlan:
    """The share that process ``rank`` of ``world`` has of every step, of however many epochs (see ``plan_epoch``).

    ``batch`` counts images over all processes; each gets its slice of every step's images. Those of a ``group``, by
    default the whole step, share their padding. Raises UserError for a split without images, and for a batch or group
    that cannot be shared out.
    """

    def __init__(
        self, dataset: DetectionDataset, *, batch: int, seed: int, rank: int, world: int, group: int | None = None
    ) -> None:
        if not len(dataset):
            raise UserError(f"{dataset.targets.source}: has no images to train on.")
        if batch % world:
            raise UserError(f"schedule.batch: {batch} images cannot be shared out to {world} processes evenly.")
        share, size = batch // world, batch if group is None else group
        if share % size and size % share:
            raise UserError(
                f"schedule.group: {size} images that belong together cannot be shared out to processes of {share} "
                "images."
            )
        self._dataset, self._batch, self._seed, self._group = dataset, batch, seed, group
        self._size, self._share, self._first = size, share, rank * share
        self.per_epoch = steps_per_epoch(dataset.visits, batch)
        self._epoch: tuple[int, EpochPlan] | None = None
        most = dataset.config.images.padded_sizes
        self._sizes = None if most is None else padded_sizes_for(dataset, batch=batch, group=group, most=most)

    def padded(self, width: int, height: int) -> tuple[int, int]:
        """Multiples of 32, or one of the few sizes that the schedule allows (``images.padded_sizes``)."""
        return padded_size(width, height) if self._sizes is None else self._sizes.smallest_for(width, height)

    def step(self, number: int) -> list[PlannedBatch]:
        """One batch for each group or share of a group that the process has; ``number`` counts over all epochs."""
        epoch, row = divmod(number, self.per_epoch)
        plan = self._plan_of(epoch)
        scale = float(plan.scales[row])

        def visits(part: slice) -> Visits:
            pairs = zip(plan.positions[row, part].tolist(), plan.occurrences[row, part].tolist(), strict=True)
            return [(position, Visit(epoch, occurrence, scale)) for position, occurrence in pairs]

        batches = []
        each = min(self._share, self._size)
        for start in range(self._first, self._first + self._share, each):
            group = start // self._size
            beside = slice(group * self._size, (group + 1) * self._size)
            batches.append(PlannedBatch(visits(slice(start, start + each)), visits(beside), group))
        return batches

    def _plan_of(self, epoch: int) -> EpochPlan:
        if self._epoch is None or self._epoch[0] != epoch:
            targets, dataset = self._dataset.targets, self._dataset
            plan = plan_epoch(
                targets.widths >= targets.heights,
                batch=self._batch,
                seed=self._seed,
                epoch=epoch,
                group=self._group,
                repeats=dataset.repeats,
                scales=dataset.config.images.scales,
            )
            self._epoch = (epoch, plan)
        return self._epoch[1]


class PassPlan:
    """Each image once over ``world`` processes, in batches of at most ``batch`` images of equal padded size.

    Normalisation and layer attention see the padding, so an image's padding must not depend on the other images.
    Tiles of a picture follow one another, in batches of their own, and all belong to one process.
    """

    def __init__(self, dataset: DetectionDataset, *, batch: int, rank: int, world: int) -> None:
        tiles = dataset.targets.tiles
        groups: dict[tuple[int, ...], list[int]] = {}
        for position in range(len(dataset)):
            picture = () if tiles is None else (int(tiles.picture_ids[position]),)
            size = padded_size(*dataset.input_size(position, Visit()))
            groups.setdefault((*size, *picture), []).append(position)
        parts = [
            [members[start : start + batch] for start in range(0, len(members), batch)]
            for _, members in sorted(groups.items())
        ]
        if tiles is None:  # any batch may be computed by any process
            parts = [[members] for part in parts for members in part]
        own = [members for part in parts[rank::world] for members in part]
        self._members = np.array([position for members in own for position in members], np.int64)
        self._ends: NDArray[np.int64] = np.cumsum([0, *map(len, own)])

    def padded(self, width: int, height: int) -> tuple[int, int]:
        return padded_size(width, height)

    def __len__(self) -> int:
        """Number of steps, each of one batch."""
        return len(self._ends) - 1

    def step(self, number: int) -> list[PlannedBatch]:
        """One batch."""
        members = self._members[self._ends[number] : self._ends[number + 1]]
        visits = [(position, Visit()) for position in members.tolist()]
        return [PlannedBatch(visits, visits[:1])]


class PlannedBatches:
    """Makes the batches of a plan's steps by number, in any process.

    With ``for_gpu`` as ``collate`` says.
    """

    def __init__(self, dataset: DetectionDataset, plan: Plan, *, for_gpu: bool = False) -> None:
        self.dataset = dataset
        self.plan = plan
        self.for_gpu = for_gpu

    def make(self, step: int) -> tuple[Batch, ...]:
        """One batch for each padded size, in the order in which they come first.

        Raises UserError for unreadable images.
        """
        dataset = self.dataset
        by_size: dict[tuple[int, int], tuple[list[Sample], list[int]]] = {}
        for planned in self.plan.step(step):
            sizes = [dataset.input_size(*one) for one in planned.beside]
            padded = self.plan.padded(max(width for width, _ in sizes), max(height for _, height in sizes))
            samples, groups = by_size.setdefault(padded, ([], []))
            samples += [dataset.sample(*one) for one in planned.visits]
            groups += [planned.group] * len(planned.visits)
        pixels, for_gpu = dataset.config.pixels, self.for_gpu
        return tuple(
            collate(samples, pixels, padded, groups, for_gpu=for_gpu) for padded, (samples, groups) in by_size.items()
        )

    def tensors(self, step: int) -> list[Tensor]:
        """The same as the fields of one batch after those of the other (``Batch.of_tensors``)."""
        return [value for batch in self.make(step) for value in batch.tensors()]

    def files(self, step: int) -> str:
        """The images of a step, for messages."""
        return listed([self.dataset.name_of(position) for position in _positions(self.plan.step(step))])


def _positions(batches: Iterable[PlannedBatch]) -> list[int]:
    return [position for batch in batches for position, _ in batch.visits]
