"""Processes that make batches ahead of time, each handed over in a memory file of its own.

What the training needs of them and torch's ``DataLoader`` does not give:

- A batch that cannot be handed over is an error at once. (There a thread drops it, and the reader waits for ever.)
- The death of a process is noticed where its batch is waited for, without a limit on the time that a slow disk may
  take. (There it is raised from a signal handler, in the middle of any line of the main thread.)
- Whoever asks all processes to stop, asks the parent alone.
- No batch lies in /dev/shm, which containers keep small. Files of ``memfd_create`` are limited by the memory alone.
"""

import atexit
import ctypes
import errno
import logging
import mmap
import os
import pickle
import select
import signal
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from types import TracebackType
from typing import NoReturn, Self

import torch
from torch import Tensor

from tood.io.end_with_parent import end_with_parent
from tood.io.errors import TransientError, UserError
from tood.io.os_errors import machine_failure, refusal
from tood.io.shared_constants import BUG

AHEAD = 2
"""Batches that each process has ready, or works at, before they are asked for."""
Make = Callable[[int], Sequence[Tensor]]

log = logging.getLogger(__name__)

_STOPS = (signal.SIGTERM, signal.SIGINT)
_ALIGNED = 64  # bytes
_MESSAGE = 1 << 16  # bytes of the longest message; each is sent whole or not at all
_LONGEST_TEXT = 4000  # characters of an error that are passed on
_SLOW = 60.0  # seconds after which a person is told what is waited for
_KILLED = 5.0  # seconds


@dataclass(frozen=True)
class _Layout:
    """The tensors in a memory file, one behind the other."""

    kinds: tuple[torch.dtype, ...]
    shapes: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Self:
        starts, end = [], 0
        for tensor in tensors:
            starts.append(end)
            end += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
        kinds, shapes = (tuple(t.dtype for t in tensors), tuple(tuple(t.shape) for t in tensors))
        return cls(kinds, shapes, tuple(starts), max(end, _ALIGNED))

    def tensors(self, file: int) -> list[Tensor]:
        """Views of the memory behind the descriptor ``file``, which may be closed; the memory lives as long as they."""
        memory = torch.frombuffer(mmap.mmap(file, self.size), dtype=torch.uint8)
        found = []
        for kind, shape, start in zip(self.kinds, self.shapes, self.starts, strict=True):
            count = torch.Size(shape).numel()
            found.append(memory[start : start + count * kind.itemsize].view(kind).view(shape))
        return found


@dataclass(frozen=True)
class _Failure:
    """An exception in a process, and its traceback as text."""

    error: Exception
    trace: str

    def raise_here(self) -> NoReturn:
        raise self.error from _InProcess(f"\n{self.trace}")


class _InProcess(Exception):  # noqa: N818
    """Shows the traceback of another process where that of a cause is shown."""


class BatchProcesses:
    """A context in which ``count`` forked processes make the batches 0 to ``batches`` - 1; iterating gives them.

    ``make`` is called in the processes, with the number of a batch; an exception there is raised here in its place.
    ``describe`` says which files a batch is made of. Iterating raises TransientError when a process was killed
    or crashed, entering when they cannot be started. All are killed when the context is left, or this process ends.
    """

    def __init__(self, make: Make, batches: int, count: int, *, name: str, describe: Callable[[int], str]) -> None:
        self._make = make
        self._batches = batches
        self._count = min(count, batches)
        self._name = name
        self._describe = describe
        self._workers: list[_Worker] = []
        self._owner = os.getpid()

    def __enter__(self) -> Self:
        atexit.register(self._end)
        try:
            for _ in range(self._count):
                self._workers.append(_Worker(self._make))
        except OSError as error:
            self._end()
            what = f"cannot start {self._count} processes reading images (fewer: --workers, 0 for none): "
            raise TransientError(refusal(self._name, error, what)) from error
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def __iter__(self) -> Iterator[list[Tensor]]:
        count = len(self._workers)
        for batch in range(min(self._batches, AHEAD * count)):
            self._ask(batch)
        for batch in range(self._batches):
            tensors = self._take(batch)
            if batch + AHEAD * count < self._batches:
                self._ask(batch + AHEAD * count)
            yield tensors

    def _ask(self, batch: int) -> None:
        with suppress(ConnectionError):  # it died; that is said where its batch is taken
            self._workers[batch % len(self._workers)].channel.send(batch.to_bytes(8))

    def _take(self, batch: int) -> list[Tensor]:
        worker = self._workers[batch % len(self._workers)]
        if not worker.answers(_SLOW):
            log.info("waits for images that take more than %.0f seconds to read: %s", _SLOW, self._describe(batch))
        try:
            return worker.take()
        except ConnectionError as error:
            raise TransientError(
                f"{self._name}: a process reading images {self._end_of(worker, batch)}, then repeat the command."
            ) from error
        except OSError as error:
            raise TransientError(refusal(self._name, error, "a process reading images cannot go on: ")) from error
        except UserError:
            raise
        except Exception as error:
            said = machine_failure(error)
            if said is None:
                raise
            raise TransientError(said) from error

    def _end_of(self, worker: "_Worker", batch: int) -> str:
        """How a process ended that was to make a batch, and what to do."""
        code = worker.exit_code()
        if code == -signal.SIGKILL:
            return "was killed, probably for lack of memory; use fewer (--workers, 0 for none) or smaller batches"
        how = f"crashed ({signal.Signals(-code).name})" if code and code < 0 else f"ended by itself (status {code})"
        return f"{how}; look at what it was to read, {self._describe(batch)}, or read in one process (--workers 0)"

    def _end(self) -> None:
        if os.getpid() == self._owner:  # not in what this process forked
            for worker in self._workers:
                worker.kill()
            for worker in self._workers:
                worker.join()
            self._workers.clear()
            atexit.unregister(self._end)


class _Worker:
    """A forked process and this one's end of the channel to it."""

    def __init__(self, make: Make) -> None:
        self.channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = ForkProcess(target=_work, args=(other, os.getpid(), make), daemon=True)
        try:
            with _signals_wait():  # in the new process, until it ignores them
                self._process.start()
        except BaseException:
            self.channel.close()
            raise
        finally:
            other.close()

    def answers(self, seconds: float) -> bool:
        """Wait for at most so long; whether there is an answer, or never will be."""
        ready = select.poll()
        ready.register(self.channel, select.POLLIN)
        return bool(ready.poll(1000 * seconds))

    def take(self) -> list[Tensor]:
        """The next batch, or its exception; ConnectionError when the process is gone."""
        message, files, _, _ = socket.recv_fds(self.channel, _MESSAGE, 1, socket.MSG_CMSG_CLOEXEC)
        try:
            if not message:
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            answer = pickle.loads(message)
            if isinstance(answer, _Failure):
                answer.raise_here()
            if not files:  # the system leaves descriptors out that there is no room for
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return list(answer.tensors(files[0]))
        finally:
            for file in files:
                os.close(file)

    def exit_code(self) -> int | None:
        """The status of a process that is gone, negative if a signal ended it."""
        self._process.join(_KILLED)
        return self._process.exitcode

    def kill(self) -> None:
        """End the process, which keeps nothing."""
        self._process.kill()

    def join(self) -> None:
        """Wait for its end, but not for a disk that keeps even a killed process; then close the channel."""
        self._process.join(_KILLED)
        self.channel.close()


def _work(channel: socket.socket, parent: int, make: Make) -> None:
    """Make batches until the parent is gone; never returns, so that nothing of the parent's is done a second time."""
    try:
        end_with_parent(signal.SIGKILL)
        # Who ends a group of processes, a service or a job step asks every process: the parent alone decides.
        for number in _STOPS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        torch.set_num_threads(1)
        while os.getppid() == parent and (asked := channel.recv(8)):
            try:
                _hand_over(channel, make(int.from_bytes(asked)))
            except ConnectionError:
                break
            except Exception as error:
                channel.send(pickle.dumps(_portable(error)))
    except BaseException:
        os._exit(BUG)
    os._exit(0)


def _hand_over(channel: socket.socket, tensors: Sequence[Tensor]) -> None:
    layout = _Layout.of(tensors)
    file = _memory_file()
    try:
        os.ftruncate(file, layout.size)
        for start, tensor in zip(layout.starts, tensors, strict=True):
            rest = tensor.contiguous().view(-1).view(torch.uint8).numpy().data
            while rest:  # written, for memory that is missing under a mapping would end the process (SIGBUS)
                count = os.pwrite(file, rest, start)
                start, rest = start + count, rest[count:]
        socket.send_fds(channel, [pickle.dumps(layout)], [file])
    finally:
        os.close(file)


def _memory_file() -> int:
    """The descriptor of a new file in memory, which goes with its last descriptor and mapping."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("tood-batch")
    system = ctypes.CDLL(None, use_errno=True)  # conda's Python is built for systems that did not have it yet
    file = int(system.memfd_create(b"tood-batch", 1))
    if file < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return file


def _portable(error: Exception) -> _Failure:
    """The exception in a form that fits a message and can be read from it."""
    trace = "".join(traceback.format_exception(error))[-_LONGEST_TEXT:]
    if isinstance(error, UserError):
        error = type(error)(*(sentence[:_LONGEST_TEXT] for sentence in error.sentences[:1]))
    with suppress(Exception):  # those of libraries cannot always be pickled, or read again
        failure = _Failure(error, trace)
        message = pickle.dumps(failure)
        if len(message) < _MESSAGE and type(pickle.loads(message).error) is type(error):
            return failure
    return _Failure(RuntimeError(f"{type(error).__name__}: {str(error)[:_LONGEST_TEXT]}"), trace)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Keep signals that ask to stop until the end of the block; a process forked in it begins with them held back."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
