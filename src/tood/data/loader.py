"""Data loading: planned batches of padded network inputs, the same for any number of processes and workers.

The images of every step are planned in advance from the annotations alone. A worker makes whole batches, padded to
the size that the images of *all* processes need at that step, so k processes together compute on exactly the pixels
that a single one would.
"""

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tood.config.backbone import PixelsConfig
from tood.data.augmentation import Visit
from tood.data.batch_processes import BatchProcesses
from tood.data.dataset import DetectionDataset, Sample
from tood.data.epoch_plan import plan_epoch
from tood.data.input_sizes import padded_size
from tood.data.normalisation import normalise
from tood.io.errors import UserError, listed


@dataclass(frozen=True, eq=False)
class Batch:
    """B network inputs of one padded size with their objects in G slots."""

    images: Tensor
    """(B,3,H,W) float32, normalised, zero padded right and bottom to multiples of 32."""
    sizes: Tensor
    """(B,2) int64 (height, width) before padding."""
    scales: Tensor
    """(B,2) float32 (width, height) factors from the original to the resized image."""
    original_sizes: Tensor
    """(B,2) int64 (height, width)"""
    image_ids: Tensor
    """(B,) int64"""
    boxes: Tensor
    """(B,G,4) float32 xyxy px of the resized image."""
    labels: Tensor
    """(B,G) int64, 0 in empty slots."""
    valid: Tensor
    """(B,G) bool, false in empty slots."""

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(**{name: value.to(device, non_blocking=True) for name, value in self._tensors()})

    def split(self, parts: int) -> list["Batch"]:
        """Equal shares of the images in their order, at the padded size and with the slots of the whole."""
        shares = {name: value.chunk(parts) for name, value in self._tensors()}
        return [Batch(**{name: share[part] for name, share in shares.items()}) for part in range(parts)]

    def pin_memory(self) -> "Batch":
        return Batch(**{name: value.pin_memory() for name, value in self._tensors()})

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        return ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))


@dataclass(frozen=True, eq=False)
class BatchPlans:
    """The B batches of a pass as arrays, which worker processes can share without ever copying them.

    Batch i holds the images at the positions ``members[ends[i]:ends[i + 1]]`` of the data set. It is padded to fit
    those ``beside`` it too: in training all images of the step, of which a process computes a share.
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

    def __len__(self) -> int:
        return len(self.beside)


def collate(samples: Sequence[Sample], pixels: PixelsConfig, padded: tuple[int, int] | None = None) -> Batch:
    """Normalise samples, then pad them with zeros to ``padded`` (width, height) px.

    By default that is the smallest multiple of 32 in each direction that fits them all.
    """
    sizes = torch.tensor([sample.image.shape[-2:] for sample in samples])
    original = torch.tensor([sample.original_size for sample in samples])
    width, height = padded or padded_size(int(sizes[:, 1].max()), int(sizes[:, 0].max()))
    slots = max(len(sample.labels) for sample in samples)
    images = torch.zeros(len(samples), 3, height, width)
    boxes = torch.zeros(len(samples), slots, 4)
    labels = torch.zeros(len(samples), slots, dtype=torch.int64)
    valid = torch.zeros(len(samples), slots, dtype=torch.bool)
    for row, sample in enumerate(samples):
        normalise(sample.image, pixels, out=images[row, :, : sizes[row, 0], : sizes[row, 1]])
        count = len(sample.labels)
        boxes[row, :count], labels[row, :count], valid[row, :count] = sample.boxes, sample.labels, True
    scales = (sizes.double() / original.double()).float().flip(1)
    image_ids = torch.tensor([sample.image_id for sample in samples])
    return Batch(images, sizes, scales, original, image_ids, boxes, labels, valid)


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
    pin_memory: bool = False,
) -> Generator[Batch]:
    """The batches of process ``rank`` in one epoch, its steps from ``start_step`` to ``end_step`` (see ``plan_epoch``).

    ``batch`` counts images over all ``world`` processes; each gets its slice of every step's images. Raises
    UserError for a split without images, a batch that cannot be shared out, and unreadable images.
    """
    if not len(dataset):
        raise UserError(f"{dataset.targets.source}: has no images to train on.")
    if batch % world:
        raise UserError(f"schedule.batch: {batch} images cannot be shared out to {world} processes evenly.")
    landscape = dataset.targets.widths >= dataset.targets.heights
    scales = dataset.config.images.scales
    plan = plan_epoch(landscape, batch=batch, seed=seed, epoch=epoch, repeats=dataset.repeats, scales=scales)
    share = batch // world
    kept = slice(start_step, end_step)
    steps, again = plan.positions[kept], plan.occurrences[kept]
    own = slice(rank * share, (rank + 1) * share)
    plans = BatchPlans(
        members=steps[:, own].ravel(),
        ends=np.arange(len(steps) + 1) * share,
        beside=steps,
        occurrences=again[:, own].ravel(),
        occurrences_beside=again,
        scales=plan.scales[kept],
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
    return _load(dataset, plans, epoch=0, workers=workers, pin_memory=pin_memory)


class _PlannedBatches:
    """Makes the batches of a pass by their numbers, in any process."""

    def __init__(self, dataset: DetectionDataset, plans: BatchPlans, epoch: int) -> None:
        self.dataset = dataset
        self.plans = plans
        self.epoch = epoch

    def make(self, number: int) -> Batch:
        plans, dataset = self.plans, self.dataset
        part = slice(plans.ends[number], plans.ends[number + 1])
        samples = [dataset.sample(*one) for one in self._visits(number, plans.members[part], plans.occurrences[part])]
        beside = self._visits(number, plans.beside[number], plans.occurrences_beside[number])
        sizes = [dataset.input_size(*one) for one in beside]
        padded = padded_size(max(width for width, _ in sizes), max(height for _, height in sizes))
        return collate(samples, dataset.config.pixels, padded)

    def tensors(self, number: int) -> list[Tensor]:
        """The fields of a batch in their order."""
        return [value for _, value in self.make(number)._tensors()]

    def files(self, number: int) -> str:
        """The images of a batch, for messages."""
        members = self.plans.members[self.plans.ends[number] : self.plans.ends[number + 1]]
        return listed([self.dataset.name_of(position) for position in members.tolist()])

    def _visits(
        self, number: int, positions: NDArray[np.int64], occurrences: NDArray[np.int64]
    ) -> list[tuple[int, Visit]]:
        scale = float(self.plans.scales[number])
        pairs = zip(positions.tolist(), occurrences.tolist(), strict=True)
        return [(position, Visit(self.epoch, occurrence, scale)) for position, occurrence in pairs]


def _load(
    dataset: DetectionDataset, plans: BatchPlans, *, epoch: int, workers: int, pin_memory: bool
) -> Generator[Batch]:
    planned = _PlannedBatches(dataset, plans, epoch)
    if not workers:
        for number in range(len(plans)):
            made = planned.make(number)
            yield made.pin_memory() if pin_memory else made
        return
    name = str(dataset.images)
    processes = BatchProcesses(planned.tensors, len(plans), workers, name=name, describe=planned.files)
    if not pin_memory:
        with processes:
            for tensors in processes:
                yield Batch(*tensors)
        return
    # Leaving the processes first ends the thread's wait for a batch of theirs.
    device = torch.cuda.current_device()
    with ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(device,)) as thread, processes:
        waiting = iter(processes)

        def pin_next() -> Batch | None:
            tensors = next(waiting, None)
            return None if tensors is None else Batch(*tensors).pin_memory()

        ahead = thread.submit(pin_next)
        while (batch := ahead.result()) is not None:
            ahead = thread.submit(pin_next)
            yield batch
