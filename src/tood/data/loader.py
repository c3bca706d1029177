"""Data loading: planned batches of padded network inputs, the same for any number of processes and workers.

The images of every step are planned in advance from the annotations alone. A worker makes whole batches, padded to
the size that the images of a group need, in whatever processes they are, so k processes together compute on exactly the
pixels that a single one would.
"""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tood.data.augmentation import Visit
from tood.data.batch import Batch, collate
from tood.data.batch_processes import BatchProcesses
from tood.data.dataset import DetectionDataset, Sample
from tood.data.epoch_plan import plan_epoch
from tood.data.input_sizes import padded_size
from tood.io.errors import UserError, listed


@dataclass(frozen=True, eq=False)
class BatchPlans:
    """The B batches of a pass as arrays, which worker processes can share without ever copying them.

    Batch i holds the images at the positions ``members[ends[i]:ends[i + 1]]`` of the data set. It is padded to fit
    those ``beside`` it too: in training all images of its group, of which a process may compute a share. ``together``
    batches make a step; those of one padded size are put into one.
    """

    members: NDArray[np.int64]
    ends: NDArray[np.int64]
    """(B+1,)"""
    beside: NDArray[np.int64]
    """(B,n), of which at least one is a member."""
    occurrences: NDArray[np.int64]
    """Of the members, like ``members``: how often the image was repeated in this epoch before."""
    occurrences_beside: NDArray[np.int64]
    """(B,n)"""
    scales: NDArray[np.float64]
    """(B,) factor of the sides of a batch's images."""
    together: int = 1
    first_group: int = 0
    """Of a step's groups, the number of the one that its first batch belongs to."""

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.beside) // self.together


def train_batches(
    dataset: DetectionDataset,
    *,
    batch: int,
    seed: int,
    epoch: int,
    rank: int,
    world: int,
    workers: int,
    start_step: int = 0,
    end_step: int | None = None,
    group: int | None = None,
    pin_memory: bool = False,
) -> Generator[tuple[Batch, ...]]:
    """The steps of process ``rank`` in one epoch from ``start_step`` to ``end_step`` (see ``plan_epoch``).

    ``batch`` counts images over all ``world`` processes; each gets its slice of every step's images, in one batch for
    each padded size. Those of a ``group``, by default the whole step, share their padding. Raises UserError for a split
    without images, a batch or group that cannot be shared out, and unreadable images. With ``pin_memory`` batches lie
    in pinned memory and their images are bytes, to be normalised on the GPU (``Batch.normalised``).
    """
    if not len(dataset):
        raise UserError(f"{dataset.targets.source}: has no images to train on.")
    if batch % world:
        raise UserError(f"schedule.batch: {batch} images cannot be shared out to {world} processes evenly.")
    landscape = dataset.targets.widths >= dataset.targets.heights
    scales = dataset.config.images.scales
    share, size = batch // world, batch if group is None else group
    if share % size and size % share:
        raise UserError(
            f"schedule.group: {size} images that belong together cannot be shared out to processes of {share} images."
        )
    plan = plan_epoch(
        landscape, batch=batch, seed=seed, epoch=epoch, group=group, repeats=dataset.repeats, scales=scales
    )
    kept = slice(start_step, end_step)
    steps, again = plan.positions[kept], plan.occurrences[kept]
    own = slice(rank * share, (rank + 1) * share)
    first, together = rank * share // size, max(1, share // size)
    in_groups = slice(first * size, (first + together) * size)
    beside, again_beside = (one[:, in_groups].reshape(-1, size) for one in (steps, again))
    plans = BatchPlans(
        members=steps[:, own].ravel(),
        ends=np.arange(len(steps) * together + 1) * min(share, size),
        beside=beside,
        occurrences=again[:, own].ravel(),
        occurrences_beside=again_beside,
        scales=plan.scales[kept].repeat(together),
        together=together,
        first_group=first,
    )
    return _load(dataset, plans, epoch=epoch, workers=workers, pin_memory=pin_memory)


def test_batches(
    dataset: DetectionDataset,
    *,
    batch: int,
    rank: int,
    world: int,
    workers: int,
    pin_memory: bool = False,  # noqa: PT028
) -> Generator[Batch]:
    """Each image once over all processes, in batches of at most ``batch`` images of equal padded size.

    Normalisation and layer attention see the padding, so an image's padding must not depend on the other images.
    Tiles of a picture follow one another, in batches of their own, and all belong to one process.
    """
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
    batches = [members for part in parts[rank::world] for members in part]
    every = np.array([position for members in batches for position in members], np.int64)
    first = np.array([members[0] for members in batches], np.int64)[:, None]
    plans = BatchPlans(
        members=every,
        ends=np.cumsum([0, *map(len, batches)]),
        beside=first,
        occurrences=np.zeros_like(every),
        occurrences_beside=np.zeros_like(first),
        scales=np.ones(len(batches)),
    )
    return _alone(_load(dataset, plans, epoch=0, workers=workers, pin_memory=pin_memory))


def _alone(steps: Generator[tuple[Batch, ...]]) -> Generator[Batch]:
    with closing(steps):
        for (batch,) in steps:
            yield batch


class _PlannedBatches:
    """Makes the batches of each step of a pass by its number, in any process."""

    def __init__(self, dataset: DetectionDataset, plans: BatchPlans, epoch: int, *, as_bytes: bool) -> None:
        self.dataset = dataset
        self.plans = plans
        self.epoch = epoch
        self.as_bytes = as_bytes

    def make(self, step: int) -> tuple[Batch, ...]:
        """One batch for each padded size, in the order in which they come first."""
        plans, dataset = self.plans, self.dataset
        by_size: dict[tuple[int, int], tuple[list[Sample], list[int]]] = {}
        for place in range(plans.together):
            number = step * plans.together + place
            part = slice(plans.ends[number], plans.ends[number + 1])
            visits = self._visits(number, plans.members[part], plans.occurrences[part])
            beside = self._visits(number, plans.beside[number], plans.occurrences_beside[number])
            sizes = [dataset.input_size(*one) for one in beside]
            padded = padded_size(max(width for width, _ in sizes), max(height for _, height in sizes))
            samples, groups = by_size.setdefault(padded, ([], []))
            samples += [dataset.sample(*one) for one in visits]
            groups += [plans.first_group + place] * len(visits)
        pixels, as_bytes = dataset.config.pixels, self.as_bytes
        return tuple(
            collate(samples, pixels, padded, groups, as_bytes=as_bytes) for padded, (samples, groups) in by_size.items()
        )

    def tensors(self, step: int) -> list[Tensor]:
        """The fields of its batches in their order."""
        return [value for batch in self.make(step) for value in batch.tensors()]

    def files(self, step: int) -> str:
        """The images of a step, for messages."""
        together = self.plans.together
        members = self.plans.members[self.plans.ends[step * together] : self.plans.ends[(step + 1) * together]]
        return listed([self.dataset.name_of(position) for position in members.tolist()])

    def _visits(
        self, number: int, positions: NDArray[np.int64], occurrences: NDArray[np.int64]
    ) -> list[tuple[int, Visit]]:
        scale = float(self.plans.scales[number])
        pairs = zip(positions.tolist(), occurrences.tolist(), strict=True)
        return [(position, Visit(self.epoch, occurrence, scale)) for position, occurrence in pairs]


def _load(
    dataset: DetectionDataset, plans: BatchPlans, *, epoch: int, workers: int, pin_memory: bool
) -> Generator[tuple[Batch, ...]]:
    planned = _PlannedBatches(dataset, plans, epoch, as_bytes=pin_memory)
    if not workers:
        for number in range(len(plans)):
            made = planned.make(number)
            yield tuple(batch.pin_memory() for batch in made) if pin_memory else made
        return
    name = str(dataset.images)
    processes = BatchProcesses(planned.tensors, len(plans), workers, name=name, describe=planned.files)
    if not pin_memory:
        with processes:
            for tensors in processes:
                yield Batch.of_tensors(tensors)
        return
    # Leaving the processes first ends the thread's wait for a batch of theirs.
    device = torch.cuda.current_device()
    with ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(device,)) as thread, processes:
        waiting = iter(processes)

        def pin_next() -> tuple[Batch, ...] | None:
            tensors = next(waiting, None)
            return None if tensors is None else tuple(batch.pin_memory() for batch in Batch.of_tensors(tensors))

        ahead = thread.submit(pin_next)
        while (batches := ahead.result()) is not None:
            ahead = thread.submit(pin_next)
            yield batches
