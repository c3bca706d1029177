"""CUDA graphs: kernels that were recorded once and are launched again in one call, where the host is the limit.

A graph repeats kernels with their arguments. So tensors that it reads or writes from outside must stay where they are,
whatever Python decided when it was recorded stays decided, and no kernel may wait for the host.
"""

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from typing import Generic, Protocol, TypeVar

import torch

from tood.io.console import RunLog
from tood.io.shared_constants import GRAPHS

MOST = 12
"""Graphs that are kept. They share the memory in which they work, but not their inputs."""
SIGHTS = 3
"""How often work has to come until it is recorded, which takes as long as computing it several times."""
IDLE = 100
"""Where there are as many as may be, one gives way that was not used for so many steps."""
_RESERVE = 1.25
"""How much memory has to be left for work without graphs, as a multiple of what it needed so far."""
_REMEMBERED = 1000
"""Keys that are counted before they are recorded."""

_failed: list[torch.cuda.CUDAGraph] = []
"""PyTorch's allocator may look at a graph whose recording failed whenever another one is recorded."""

T = TypeVar("T")


class NotRepeatableError(RuntimeError):
    """A graph does not compute again what it was recorded from."""


@dataclass(frozen=True, eq=False)
class Recording(Generic[T]):
    """Work that was recorded, but not done yet."""

    outputs: T
    """Whose tensors get their values by ``replay``; they keep them until the same recorder's next replay."""
    replay: Callable[[], None]


class Recorder(Protocol):
    """Records work as graphs whose replays follow each other, and therefore share their memory."""

    def beside(self, work: Callable[[], T]) -> T:
        """Do the work at once where it will be recorded: what is made at the first use is there then."""

    def record(self, work: Callable[[], T]) -> Recording[T]:
        """Record the work; RuntimeError where it waits for the host or memory does not suffice."""

    def held(self) -> int:
        """Bytes of the recordings' memory."""

    def working_memory(self) -> int:
        """Bytes that the work so far needed at its peak, besides what it left."""

    def free_memory(self) -> int:
        """Bytes that are left."""


class CudaRecorder:
    """A recorder on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _stream_on(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._held = 0

    def beside(self, work: Callable[[], T]) -> T:
        here = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            done = work()
        here.wait_stream(self._stream)
        return done

    def record(self, work: Callable[[], T]) -> Recording[T]:
        graph = torch.cuda.CUDAGraph()
        # Another thread may pin memory meanwhile, which only "thread_local" allows. The outer block gives the stream
        # back where a recording fails, which ``torch.cuda.graph`` does not.
        mode = "thread_local"
        recording = torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode=mode)
        try:
            with torch.cuda.stream(self._stream), recording:
                before = torch.cuda.memory_reserved(self._device)
                outputs = work()
                self._held += torch.cuda.memory_reserved(self._device) - before
        except BaseException:
            graph.reset()
            _failed.append(graph)
            raise
        return Recording(outputs, graph.replay)

    def held(self) -> int:
        return self._held

    def working_memory(self) -> int:
        return torch.cuda.max_memory_allocated(self._device) - torch.cuda.memory_allocated(self._device)

    def free_memory(self) -> int:
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self._device)[0]


@cache
def _stream_on(device: torch.device) -> torch.cuda.Stream:
    """One for all recorders, since libraries keep working memory for each stream."""
    return torch.cuda.Stream(device)


def recorder_on(device: torch.device) -> Recorder | None:
    """A recorder; None on a CPU, where the environment says TOOD_GRAPHS=0, and after a recording that failed."""
    if device.type != "cuda" or os.environ.get(GRAPHS) == "0" or _failed:
        return None
    return CudaRecorder(device)


@dataclass
class _Kept(Generic[T]):
    graph: T
    used: int


class Graphs(Generic[T]):
    """Graphs of work that comes again and again, at most ``MOST``; a key says all that one depends on."""

    def __init__(self, recorder: Recorder, log: logging.Logger | RunLog, level: int = logging.INFO) -> None:
        """The first recording is logged at this ``level``, the others for the log file."""
        self._recorder = recorder
        self._log = log
        self._level = level
        self._kept: OrderedDict[Hashable, _Kept[T]] = OrderedDict()
        """The one that was used last is the last."""
        self._sights: OrderedDict[Hashable, int] = OrderedDict()
        self._looks = 0
        self._given_up = False

    def find(self, key: Hashable, record: Callable[[], T], name: str) -> T | None:
        """The graph under this key, which ``record`` makes once it has come often enough; None: do without.

        ``record`` must leave everything as it was. Where it fails (RuntimeError), or leaves less memory than work
        without graphs needs, all graphs are dropped, and there will be none; the log says why. ``name`` is for the log.
        """
        if self._given_up:
            return None
        self._looks += 1
        if key not in self._kept and not (self._is_wanted(key) and self._record(key, record, name)):
            return None
        self._kept.move_to_end(key)
        kept = self._kept[key]
        kept.used = self._looks
        return kept.graph

    def _is_wanted(self, key: Hashable) -> bool:
        """Count this sight of the key; whether there were enough, and there is a place for its graph."""
        self._sights[key] = self._sights.pop(key, 0) + 1
        if len(self._sights) > _REMEMBERED:
            self._sights.popitem(last=False)
        if self._sights[key] < SIGHTS:
            return False
        if len(self._kept) < MOST:
            return True
        longest = next(iter(self._kept))
        if self._looks - self._kept[longest].used <= IDLE:
            return False
        del self._kept[longest]
        return True

    def _record(self, key: Hashable, record: Callable[[], T], name: str) -> bool:
        del self._sights[key]
        needed = self._recorder.working_memory()
        try:
            graph = record()
        except RuntimeError as error:
            said = str(error).strip() or type(error).__name__
            self.give_up(f"{name} cannot be recorded: {said.splitlines()[0]}")
            return False
        if self._recorder.free_memory() < needed * _RESERVE:
            del graph
            self.give_up(f"beside {name} they leave too little memory")
            return False
        self._kept[key] = _Kept(graph, self._looks)
        gigabytes = self._recorder.held() / 1e9
        level = logging.DEBUG if len(self._kept) > 1 else self._level
        self._log.log(
            level, "recorded %s as a CUDA graph (%d of at most %d, %.1f GB)", name, len(self._kept), MOST, gigabytes
        )
        return True

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def give_up(self, why: str) -> None:
        """Drop all graphs and make no more, for the reason that the log then gives."""
        self._given_up = True
        self._kept.clear()
        self._log.info("goes on without CUDA graphs: %s", why)
