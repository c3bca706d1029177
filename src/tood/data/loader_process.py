"""What a process that makes batches does, and this process's end of the channel to it."""

import errno
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
from typing import NoReturn, Protocol

import torch
from torch import Tensor

from tood.data.memory_files import file_of_tensors
from tood.io.end_with_parent import end_with_parent
from tood.io.errors import UserError
from tood.io.shared_constants import BUG

Make = Callable[[int], Sequence[Tensor]]
"""Makes a batch by its number."""

MESSAGE = 1 << 16
"""Bytes of the longest message; each is sent whole or not at all."""

_STOPS = (signal.SIGTERM, signal.SIGINT)
_LONGEST_TEXT = 4000  # characters of an error that are passed on


@dataclass(frozen=True)
class _Failure:
    """An exception in a process, and its traceback as text."""

    error: Exception
    trace: str

    def raise_here(self) -> NoReturn:
        raise self.error from _InProcess(f"\n{self.trace}")


class _InProcess(Exception):  # noqa: N818
    """Shows the traceback of another process where that of a cause is shown."""


class Channel:
    """This process's end of the channel to one that makes batches."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def ask(self, batch: int) -> None:
        """Have it made after those that were asked for before."""
        with suppress(ConnectionError):  # the process died; that is said where its batch is taken
            self._end.send(batch.to_bytes(8))

    def answers(self, seconds: float) -> bool:
        """Wait for at most so long; whether there is an answer, or never will be."""
        ready = select.poll()
        ready.register(self._end, select.POLLIN)
        return bool(ready.poll(1000 * seconds))

    def take(self) -> list[Tensor]:
        """The next batch, or its exception; ConnectionError when the process is gone."""
        message, files, _, _ = socket.recv_fds(self._end, MESSAGE, 1, socket.MSG_CMSG_CLOEXEC)
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

    def close(self) -> None:
        self._end.close()


class Started(Protocol):
    """A process that makes batches, however it was started."""

    def kill(self) -> None:
        """End the process, which keeps nothing."""

    def ended(self, seconds: float) -> int | None:
        """Wait for its end, at most so long; the status, negative if a signal ended it, and None while it goes on."""


class Forked:
    """A process forked from this one."""

    def __init__(self, end: socket.socket, make: Make) -> None:
        self._process = ForkProcess(target=work, args=(end, os.getpid(), make), daemon=True)
        with signals_wait():  # in the new process, until it ignores them
            self._process.start()

    def kill(self) -> None:
        self._process.kill()

    def ended(self, seconds: float) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode


def work(end: socket.socket, parent: int, make: Make) -> NoReturn:
    """Make batches until the parent is gone; never returns, so that nothing of the parent's is done a second time."""
    try:
        end_with_parent(signal.SIGKILL)
        ignore_stops()
        torch.set_num_threads(1)
        while os.getppid() == parent and (asked := end.recv(8)):
            try:
                _hand_over(end, make(int.from_bytes(asked)))
            except ConnectionError:
                break
            except Exception as error:
                end.send(pickle.dumps(_portable(error)))
    except BaseException:
        os._exit(BUG)
    os._exit(0)


def ignore_stops() -> None:
    """Leave stopping to the trainer: who ends a group of processes, a service or a job step asks every process."""
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)


@contextmanager
def signals_wait() -> Iterator[None]:
    """Keep signals that ask to stop until the end of the block; a process started in it begins with them held back."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _hand_over(end: socket.socket, tensors: Sequence[Tensor]) -> None:
    file, layout = file_of_tensors(tensors)
    try:
        socket.send_fds(end, [pickle.dumps(layout)], [file])
    finally:
        os.close(file)


def _portable(error: Exception) -> _Failure:
    """The exception in a form that fits a message and can be read from it."""
    trace = "".join(traceback.format_exception(error))[-_LONGEST_TEXT:]
    if isinstance(error, UserError):
        error = type(error)(*(sentence[:_LONGEST_TEXT] for sentence in error.sentences[:1]))
    with suppress(Exception):  # those of libraries cannot always be pickled, or read again
        failure = _Failure(error, trace)
        message = pickle.dumps(failure)
        if len(message) < MESSAGE and type(pickle.loads(message).error) is type(error):
            return failure
    return _Failure(RuntimeError(f"{type(error).__name__}: {str(error)[:_LONGEST_TEXT]}"), trace)
