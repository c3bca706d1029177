"""Processes that make batches ahead of time, each handed over in a memory file of its own.

What the training needs of them and torch's ``DataLoader`` does not give:

- A batch that cannot be handed over is an error at once. (There a thread drops it, and the reader waits for ever.)
- The death of a process is noticed where its batch is waited for, without a limit on the time that a slow disk may
  take. (There it is raised from a signal handler, in the middle of any line of the main thread.)
- Whoever asks all processes to stop, asks the parent alone.
- No batch lies in /dev/shm, which containers keep small. Files of ``memfd_create`` are limited by the memory alone.
- They stay from epoch to epoch without being told anything at its end: batches have numbers over the whole training.
"""

import atexit
import logging
import os
import signal
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from torch import Tensor

from tood.data.fork_server import ForkServer
from tood.data.loader_process import Channel, Forked, Make, Started
from tood.io.errors import TransientError, UserError
from tood.io.os_errors import machine_failure, refusal

AHEAD = 2
"""Batches that each process has ready, or works at, before they are asked for."""

log = logging.getLogger(__name__)

_SLOW = 60.0  # seconds after which a person is told what is waited for
_KILLED = 5.0  # seconds


class BatchProcesses:
    """A context in which ``count`` processes make batches by their numbers, in as many passes as are read.

    ``make`` is called in the processes, with the number of a batch; an exception there is raised here in its place.
    ``describe`` says which files a batch is made of. Processes are forked from this one when the context is entered,
    so they keep none of the memory that it takes later; a ``server``, which ``make`` is pickled for, forks them for the
    first pass. All are killed when the context is left, or this process ends.
    """

    def __init__(
        self,
        make: Make,
        count: int,
        *,
        name: str,
        describe: Callable[[int], str],
        server: ForkServer | None = None,
    ) -> None:
        self._make = make
        self._count = count
        self._name = name
        self._describe = describe
        self._server = server
        self._workers: list[_Worker] = []
        self._owner = os.getpid()

    def __enter__(self) -> Self:
        """Raises TransientError when processes cannot be started, as ``read`` does."""
        if self._server is None:
            self._start()
        atexit.register(self.end)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()
        atexit.unregister(self.end)

    def read(self, numbers: Sequence[int]) -> Generator[list[Tensor]]:
        """The batches of these numbers, in their order; one pass at a time.

        Raises TransientError when a process was killed or crashed. The processes end with a pass that is not read to
        its end, and others are started for the next one.
        """
        if not self._workers:
            self._start()
        return self._pass(numbers, tuple(self._workers))

    def end(self) -> None:
        """Kill the processes; a pass that waits for one of them in another thread ends with an error."""
        if os.getpid() == self._owner:  # not in what this process forked
            workers, self._workers = self._workers, []
            for worker in workers:
                worker.process.kill()
            for worker in workers:
                worker.process.ended(_KILLED)  # but a disk may keep even a killed one
                worker.channel.close()

    def _start(self) -> None:
        try:
            with self._starter() as start:
                for _ in range(self._count):
                    self._workers.append(_Worker(start))
        except OSError as error:
            self.end()
            what = f"cannot start {self._count} processes reading images (fewer: --workers, 0 for none): "
            raise TransientError(refusal(self._name, error, what)) from error
        except BaseException:
            self.end()
            raise

    @contextmanager
    def _starter(self) -> Iterator[Callable[[socket.socket], Started]]:
        if self._server is None:
            yield lambda end: Forked(end, self._make)
        else:
            with self._server.given(self._make) as fork:
                yield fork

    def _pass(self, numbers: Sequence[int], workers: Sequence["_Worker"]) -> Generator[list[Tensor]]:
        count, asked, taken = len(workers), 0, 0
        try:
            for number in numbers[: AHEAD * count]:
                workers[asked % count].channel.ask(number)
                asked += 1
            for number in numbers:
                tensors = self._take(workers[taken % count], number)
                taken += 1
                if asked < len(numbers):
                    workers[asked % count].channel.ask(numbers[asked])
                    asked += 1
                yield tensors
        finally:
            if taken < asked:
                self.end()

    def _take(self, worker: "_Worker", batch: int) -> list[Tensor]:
        if not worker.channel.answers(_SLOW):
            log.info("waits for images that take more than %.0f seconds to read: %s", _SLOW, self._describe(batch))
        try:
            return worker.channel.take()
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
        code = worker.process.ended(_KILLED)
        if code == -signal.SIGKILL:
            return "was killed, probably for lack of memory; use fewer (--workers, 0 for none) or smaller batches"
        how = f"crashed ({signal.Signals(-code).name})" if code and code < 0 else f"ended by itself (status {code})"
        return f"{how}; look at what it was to read, {self._describe(batch)}, or read in one process (--workers 0)"


class _Worker:
    """A process and this one's end of the channel to it."""

    def __init__(self, start: Callable[[socket.socket], Started]) -> None:
        end, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = Channel(end)
        try:
            self.process = start(other)
        except BaseException:
            end.close()
            raise
        finally:
            other.close()
