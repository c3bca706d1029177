"""A server that forks processes which make batches: started afresh, it has none of the threads and locks of a GPU.

The one of Python's ``multiprocessing`` promises less. A SIGTERM to the process group ends it, it does not end with the
process that started it, its address is a file in $TMPDIR, whose path may be too long for one and which a killed process
leaves behind, and whatever it forks runs the program's main module first.
"""

import errno
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from torch import Tensor

from tood.data import planned_batches  # noqa: F401  what the processes use, so that they start at once
from tood.data.loader_process import MESSAGE, Make, ignore_stops, signals_wait, work
from tood.data.memory_files import Pickled, file_of_object
from tood.io.shared_constants import BUG

_PROGRAM = """
import signal, sys
sys.path[:] = sys.argv[2:]
from tood.io.end_with_parent import end_with_parent
end_with_parent(signal.SIGKILL)
from tood.data.fork_server import serve
serve(int(sys.argv[1]))
"""
_LOOK_EVERY = 0.01  # seconds
_KILLED = 5.0  # seconds
_Answer = int | OSError | None


class ForkServer:
    """A context with a server, which imports PyTorch in the seconds that follow, and whose first fork waits for that.

    It is killed with all that it forked when the context is left, or the thread that entered it ends.
    """

    def __init__(self) -> None:
        self._lock, self._asked = threading.Lock(), 0

    def __enter__(self) -> Self:
        """Raises OSError where it cannot be started."""
        self._channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-c", _PROGRAM, str(other.fileno()), *sys.path]
        try:
            with signals_wait():  # in the new process, until it ignores them
                self._process = subprocess.Popen(command, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL)
        except BaseException:
            self._channel.close()
            raise
        finally:
            other.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # a disk may keep even a killed one
            self._process.wait(_KILLED)
        self._channel.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @contextmanager
    def given(self, make: Make) -> Iterator[Callable[[socket.socket], "Served"]]:
        """A function that forks a process which makes batches and talks at the end of a channel that it is given.

        ``make`` must be importable where it is pickled. It raises OSError where there can be no such process.
        """
        file, pickled = file_of_object(make)

        def fork(end: socket.socket) -> Served:
            pid = self.answer(_Fork(pickled), [end.fileno(), file])
            assert pid is not None
            return Served(self, pid)

        try:
            yield fork
        finally:
            os.close(file)

    def answer(self, request: "_Request", files: Sequence[int] = ()) -> int | None:
        """What the server says to it; raises its OSError, and ChildProcessError where it is gone."""
        with self._lock:
            self._asked += 1
            with suppress(ConnectionError):
                socket.send_fds(self._channel, [pickle.dumps((self._asked, request))], files)
                while message := self._channel.recv(MESSAGE):
                    answer: _Answer
                    number, answer = pickle.loads(message)
                    if number == self._asked:  # not of a question whose answer was not waited for
                        if isinstance(answer, OSError):
                            raise answer
                        return answer
        raise ChildProcessError(errno.ECHILD, "the process that starts them is gone")


class Served:
    """A process that a server forked."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server, self._pid = server, pid
        self._status: int | None = None

    def kill(self) -> None:
        """End the process, which keeps nothing."""
        with suppress(OSError):  # if the server is gone, so is it
            self._server.answer(_Kill(self._pid))

    def ended(self, seconds: float) -> int | None:
        """Wait for its end, at most so long; the status, negative if a signal ended it, and None while it goes on."""
        if self._status is None:
            try:
                self._status = self._server.answer(_Wait(self._pid, seconds))
            except ChildProcessError:
                self._status = -signal.SIGKILL
        return self._status


class _Request(Protocol):
    def done(self, channel: socket.socket, files: Sequence[int]) -> int | None:
        """Do it in the server; ``channel`` is the one to who asked."""


@dataclass(frozen=True)
class _Fork:
    """Asks for a process that makes batches; its end of a channel and the file with what makes them are sent along."""

    make: Pickled

    def done(self, channel: socket.socket, files: Sequence[int]) -> int:
        if len(files) < 2:  # the system leaves descriptors out that there is no room for
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        server, pid = os.getpid(), os.fork()
        if pid == 0:
            try:
                channel.close()
                work(socket.socket(fileno=files[0]), server, _Loaded(self.make, files[1]))
            finally:
                os._exit(BUG)
        return pid


@dataclass(frozen=True)
class _Kill:
    pid: int

    def done(self, channel: socket.socket, files: Sequence[int]) -> None:
        os.kill(self.pid, signal.SIGKILL)  # it is a child that nobody waited for, so the number is still its


@dataclass(frozen=True)
class _Wait:
    pid: int
    seconds: float

    def done(self, channel: socket.socket, files: Sequence[int]) -> int | None:
        until = time.monotonic() + self.seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= until:
                return None
            time.sleep(_LOOK_EVERY)


class _Loaded:
    """Makes batches with what is in a file; that is loaded for the first, so that a failure is passed on as of it."""

    def __init__(self, pickled: Pickled, file: int) -> None:
        self._pickled, self._file = pickled, file
        self._make: Make | None = None

    def __call__(self, number: int) -> Sequence[Tensor]:
        if self._make is None:
            self._make = self._pickled.load(self._file)
        return self._make(number)


def serve(file: int) -> None:
    """Do what is asked for at the channel with this descriptor until its other end is closed; the server's program."""
    ignore_stops()
    channel = socket.socket(fileno=file)
    while True:
        message, files, _, _ = socket.recv_fds(channel, MESSAGE, 2)
        if not message:
            return
        number, request = pickle.loads(message)
        answer: _Answer
        try:
            answer = request.done(channel, files)
        except OSError as error:
            answer = error
        finally:
            for one in files:
                os.close(one)
        channel.send(pickle.dumps((number, answer)))
