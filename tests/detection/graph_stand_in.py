"""A recorder for a machine without GPU: a replay runs the work again, on the memory that it was recorded with."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from tood.detection.cuda_graphs import Recording
from tood.detection.points import Points

T = TypeVar("T")


class StandIn:
    """Like CUDA's, a recording computes nothing, and each replay overwrites what the one before left.

    What Python decides while it records stays decided: the work must not look at anything that changes.
    """

    def __init__(self) -> None:
        self.recorded = self.replayed = 0
        self.fails: Callable[[], None] = lambda: None
        self.needed, self.left = 0, 1
        self._outputs: list[Any] = []

    def beside(self, work: Callable[[], T]) -> T:
        return work()

    def record(self, work: Callable[[], T]) -> Recording[T]:
        self.fails()
        outputs = work()
        self.recorded += 1
        self._outputs.append(outputs)
        _spoil(outputs)

        def replay() -> None:
            self.replayed += 1
            found = work()
            for other in self._outputs:
                _spoil(other)
            for own, new in zip(tensors_in(outputs), tensors_in(found), strict=True):
                own.copy_(new)

        return Recording(outputs, replay)

    def held(self) -> int:
        return self.recorded

    def working_memory(self) -> int:
        return self.needed

    def free_memory(self) -> int:
        return self.left


def _spoil(outputs: Any) -> None:
    for tensor in tensors_in(outputs):
        tensor.fill_(torch.nan if tensor.is_floating_point() else -1)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Those of nested containers and dataclasses, without locations, which steps share."""
    if isinstance(value, Tensor):
        yield value.detach()
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, Points):
        yield from tensors_in([getattr(value, field.name) for field in dataclasses.fields(value)])
