"""Data loading: planned batches read here or in processes, the same for any number of processes and workers.

A worker makes whole batches, padded to the size that the images of a group need, in whatever processes they are.
"""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from tood.data.batch import Batch
from tood.data.batch_processes import BatchProcesses
from tood.data.dataset import DetectionDataset
from tood.data.fork_server import ForkServer
from tood.data.planned_batches import PassPlan, Plan, PlannedBatches, TrainingPlan


@dataclass(frozen=True, eq=False)
class Reading:
    """How batches are read; this changes no number in them."""

    workers: int = 0
    """Processes that read; with none this one does."""
    pin_memory: bool = False
    """Batches lie in pinned memory and their images are bytes, to be normalised on the GPU (``Batch.normalised``)."""
    server: ForkServer | None = None
    """What forks the processes; without one they are forked from this one, which must use no GPU then."""


_HERE = Reading()


@contextmanager
def reading_for(device: torch.device, workers: int) -> Iterator[Reading]:
    """How to read for a device in so many processes."""
    with server_for(device, workers) as server:
        yield Reading(workers, device.type == "cuda", server)


@contextmanager
def server_for(device: torch.device, workers: int | None = None) -> Iterator[ForkServer | None]:
    """What is to fork the processes that read for a device, if there may be any."""
    if device.type == "cpu" or workers == 0:
        yield None
    else:
        with ForkServer() as server:
            yield server


class Loader:
    """The batches of a plan's steps, in as many passes as are read; a context, to whose end its processes stay."""

    def __init__(self, dataset: DetectionDataset, plan: Plan, reading: Reading) -> None:
        self._planned = PlannedBatches(dataset, plan, for_gpu=reading.pin_memory)
        self._pin_memory = reading.pin_memory
        self._processes: BatchProcesses | None = None
        if reading.workers:
            self._processes = BatchProcesses(
                self._planned.tensors,
                reading.workers,
                name=str(dataset.images),
                describe=self._planned.files,
                server=reading.server,
            )

    def __enter__(self) -> Self:
        if self._processes is not None:
            self._processes.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._processes is not None:
            self._processes.__exit__(kind, error, at)

    def read(self, steps: range) -> Generator[tuple[Batch, ...]]:
        """The batches of each step, one for each padded size; some of the next steps are made meanwhile.

        Raises UserError for unreadable images, and TransientError when a process was killed or cannot be started.
        """
        if self._processes is None:
            return self._made_here(steps)
        found = self._processes.read(steps)
        return _pinned_ahead(self._processes, found) if self._pin_memory else _as_they_come(found)

    def _made_here(self, steps: range) -> Generator[tuple[Batch, ...]]:
        for step in steps:
            made = self._planned.make(step)
            yield _in_pinned_memory(made) if self._pin_memory else made


def train_batches(
    dataset: DetectionDataset,
    *,
    batch: int,
    seed: int,
    epoch: int,
    rank: int,
    world: int,
    start_step: int = 0,
    end_step: int | None = None,
    group: int | None = None,
    reading: Reading = _HERE,
) -> Generator[tuple[Batch, ...]]:
    """The steps of one epoch alone, from ``start_step`` to ``end_step`` (see ``TrainingPlan`` and ``Loader.read``)."""
    plan = TrainingPlan(dataset, batch=batch, seed=seed, rank=rank, world=world, group=group)
    first = epoch * plan.per_epoch
    steps = range(first, first + plan.per_epoch)[start_step:end_step]
    return _one_pass(Loader(dataset, plan, reading), steps)


def test_batches(
    dataset: DetectionDataset,
    *,
    batch: int,
    rank: int,
    world: int,
    reading: Reading = _HERE,  # noqa: PT028
) -> Generator[Batch]:
    """One pass over a split (see ``PassPlan`` and ``Loader.read``)."""
    plan = PassPlan(dataset, batch=batch, rank=rank, world=world)
    return single_batches(_one_pass(Loader(dataset, plan, reading), range(len(plan))))


def single_batches(steps: Generator[tuple[Batch, ...]]) -> Generator[Batch]:
    """The batches of steps that have one each."""
    with closing(steps):
        for (batch,) in steps:
            yield batch


def _one_pass(loader: Loader, steps: range) -> Generator[tuple[Batch, ...]]:
    with loader, closing(loader.read(steps)) as found:
        yield from found


def _as_they_come(found: Generator[list[Tensor]]) -> Generator[tuple[Batch, ...]]:
    with closing(found):
        for tensors in found:
            yield Batch.of_tensors(tensors)


def _pinned_ahead(processes: BatchProcesses, found: Generator[list[Tensor]]) -> Generator[tuple[Batch, ...]]:
    """The next batch is copied to pinned memory, which takes long, by a thread of its own."""

    def pin_next() -> tuple[Batch, ...] | None:
        tensors = next(found, None)
        return None if tensors is None else _in_pinned_memory(Batch.of_tensors(tensors))

    device = torch.cuda.current_device()
    with closing(found), ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(device,)) as thread:
        try:
            ahead = thread.submit(pin_next)
            while (batches := ahead.result()) is not None:
                ahead = thread.submit(pin_next)
                yield batches
        except BaseException:
            processes.end()  # and with it the thread's wait for a batch of theirs
            raise


def _in_pinned_memory(batches: Sequence[Batch]) -> tuple[Batch, ...]:
    return tuple(batch.pin_memory() for batch in batches)
