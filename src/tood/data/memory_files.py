"""Files in memory (``memfd_create``), in which processes hand tensors and arrays to each other.

They are limited by the memory alone and not by /dev/shm, which containers keep small. A file goes with its last
descriptor and mapping.
"""

import ctypes
import mmap
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

_ALIGNED = 64  # bytes


@dataclass(frozen=True)
class Layout:
    """The tensors in a memory file, one behind the other."""

    kinds: tuple[torch.dtype, ...]
    shapes: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Self:
        kinds, shapes = (tuple(t.dtype for t in tensors), tuple(tuple(t.shape) for t in tensors))
        starts, size = _places([tensor.nbytes for tensor in tensors])
        return cls(kinds, shapes, starts, size)

    def tensors(self, file: int) -> list[Tensor]:
        """Views of the memory behind the descriptor ``file``, which may be closed; the memory lives as long as they."""
        memory = torch.frombuffer(mmap.mmap(file, self.size), dtype=torch.uint8)
        found = []
        for kind, shape, start in zip(self.kinds, self.shapes, self.starts, strict=True):
            count = torch.Size(shape).numel()
            found.append(memory[start : start + count * kind.itemsize].view(kind).view(shape))
        return found


def file_of_tensors(tensors: Sequence[Tensor]) -> tuple[int, Layout]:
    """The descriptor of a new file with the tensors, and where each is."""
    layout = Layout.of(tensors)
    parts = [tensor.contiguous().view(-1).view(torch.uint8).numpy().data for tensor in tensors]
    return _file_of(parts, layout.starts, layout.size), layout


@dataclass(frozen=True)
class Pickled:
    """An object in a memory file: its pickle, then its arrays, which all who load it share until they change them."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    size: int

    def load(self, file: int) -> Any:
        """The object; ``file`` may be closed then."""
        memory = memoryview(
            mmap.mmap(file, self.size, mmap.MAP_PRIVATE)
        )  # writable, and a page that is written is copied
        pickled, *arrays = (memory[start : start + size] for start, size in zip(self.starts, self.sizes, strict=True))
        return pickle.loads(pickled, buffers=arrays)


def file_of_object(value: object) -> tuple[int, Pickled]:
    """The descriptor of a new file with ``value``, and what loads it."""
    arrays: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    parts = [memoryview(pickled), *(array.raw() for array in arrays)]
    sizes = tuple(part.nbytes for part in parts)
    starts, size = _places(sizes)
    return _file_of(parts, starts, size), Pickled(starts, sizes, size)


def _places(sizes: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Where parts of so many bytes begin, and the size of all; never 0, which cannot be mapped."""
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += -(-size // _ALIGNED) * _ALIGNED
    return tuple(starts), max(end, _ALIGNED)


def _file_of(parts: Sequence[memoryview], starts: Sequence[int], size: int) -> int:
    file = _memory_file()
    try:
        os.ftruncate(file, size)
        for start, part in zip(starts, parts, strict=True):
            rest = part
            while rest:  # written, for memory that is missing under a mapping would end the process (SIGBUS)
                count = os.pwrite(file, rest, start)
                start, rest = start + count, rest[count:]
    except BaseException:
        os.close(file)
        raise
    return file


def _memory_file() -> int:
    """The descriptor of a new file in memory."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("tood-batch")
    system = ctypes.CDLL(None, use_errno=True)  # conda's Python is built for systems that did not have it yet
    file = int(system.memfd_create(b"tood-batch", 1))
    if file < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return file
