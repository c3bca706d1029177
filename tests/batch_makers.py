"""What makes batches in tests of the processes that do; importable, since some of them are not forked from a test."""

import faulthandler
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tood.data.augmentation import Visit
from tood.data.dataset import DetectionDataset, Sample

FAILS = 3
"""The number of the batch at which something happens."""


def batch(number: int) -> list[Tensor]:
    return [torch.full((2, 3), float(number)), torch.tensor([number]), torch.zeros(0, 4), torch.tensor([True, False])]


@dataclass(frozen=True)
class Failing:
    """Batches of which the fourth cannot be made, or is made late."""

    action: Callable[[], object]

    def __call__(self, number: int) -> Sequence[Tensor]:
        if number == FAILS:
            self.action()
        return batch(number)


@dataclass(frozen=True)
class Raising:
    error: Exception

    def __call__(self) -> None:
        raise self.error


@dataclass(frozen=True)
class Noting:
    """Batches each of whose makers leaves its process's number, in a file of the batch's."""

    folder: Path
    then: Callable[[int], object] = batch

    def __call__(self, number: int) -> Sequence[Tensor]:
        (self.folder / f"{number}.new").write_text(str(os.getpid()))
        (self.folder / f"{number}.new").rename(self.folder / str(number))
        self.then(number)
        return batch(number)

    def noted(self) -> dict[int, int]:
        """Processes by the batch that they made last."""
        return {int(file.name): int(file.read_text()) for file in self.folder.iterdir() if file.suffix != ".new"}


class OddError(Exception):
    """Cannot be made of its message alone, as exceptions of libraries."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


class Unreadable:
    """Cannot be made where its pickle is read."""

    def __call__(self, number: int) -> Sequence[Tensor]:
        raise AssertionError

    def __reduce__(self) -> tuple[type[OddError], tuple[str]]:
        return OddError, ("this",)


def odd() -> None:
    raise OddError("this", "that")


def crash() -> None:
    faulthandler.disable()  # pytest's, which would print
    os.kill(os.getpid(), signal.SIGSEGV)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    os._exit(7)


def last_long() -> None:
    time.sleep(600)


def be_slow() -> None:
    time.sleep(0.5)


def lose_memory() -> None:
    """From here on, files in memory cannot be written."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    os.pwrite = full  # type: ignore[assignment]


def sleep_after_the_first(number: int) -> None:
    if number:
        last_long()


class Deadly(DetectionDataset):
    """Ends the process that reads the sixth image, as the system does when memory runs out."""

    def sample(self, position: int, visit: Visit) -> Sample:
        if position == 5:
            be_killed()
        return super().sample(position, visit)
