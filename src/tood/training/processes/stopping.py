"""Stop requests: SIGTERM, SIGINT, or the death of the workflow that started the process."""

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tood.io.interruption import SAME_REQUEST
from tood.io.shared_constants import LAUNCHER, WORKFLOW, status_of_signal

PATIENCE = 600.0  # seconds to wait for a peer; the longest regular wait is for the main process to compute AP
_LOOK_EVERY = 1000  # milliseconds
_GRACE = 25.0  # seconds; torchrun, Slurm and Kubernetes kill after 30
UNSAVED = f"did not get to the end of its step within {_GRACE:.0f} seconds and ends; its last checkpoint remains"


class StopRequest:
    """Whether this process was asked to end; the training loop checks it between steps."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.reason = ""
        self.made_at = 0.0
        """On the monotonic clock."""
        self.over = threading.Event()
        """Set when the block that could be asked to end has ended."""

    def __bool__(self) -> bool:
        return self.number is not None

    def make(self, number: int, reason: str) -> bool:
        """Ask, unless that was done already; says whether this was the first."""
        if self.number is not None:
            return False
        self.number, self.reason, self.made_at = number, reason, time.monotonic()
        return True


@contextmanager
def stop_requests(heard: Callable[[StopRequest], None]) -> Iterator[StopRequest]:
    """Catch SIGTERM and SIGINT, and the death of the workflow that started this process, while the block runs.

    ``heard`` is called once, in another thread. Signals that follow change nothing (an engine may send
    several), except a second Ctrl-C of a person, who does not want to wait.
    """
    request = StopRequest()
    before: dict[int, Any] = {}

    def on_signal(number: int, _: FrameType | None) -> None:
        if request.make(number, signal.Signals(number).name):
            threading.Thread(target=heard, args=[request]).start()  # ``heard`` may write, a signal handler must not
        elif number == signal.SIGINT and not in_worker() and time.monotonic() - request.made_at > SAME_REQUEST:
            raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, on_signal)

    def watch(pids: list[int]) -> None:
        if _died(pids, request.over) and request.make(signal.SIGTERM, "the workflow that started it is gone"):
            heard(request)

    if pids := starters():
        threading.Thread(target=watch, args=[pids], name="watch-starters", daemon=True).start()
    try:
        yield request
    finally:
        request.over.set()
        for caught, handler in before.items():
            signal.signal(caught, handler)


def end_in_time(request: StopRequest, last_words: Callable[[], None]) -> None:
    """Force the end of this process if ``request.over`` is not set within the grace period of workflow engines.

    A step may take long, and if this is one of several processes, it may wait for dead ones.
    """

    def end() -> None:
        if request.over.wait(_GRACE):
            return
        try:
            last_words()
        finally:
            os._exit(status_of_signal(request.number or signal.SIGTERM))

    threading.Thread(target=end, name="end-in-time", daemon=True).start()


def starters() -> list[int]:
    """Ids of the processes that wait for this one: those in the environment, and its parent.

    The parent alone is not enough: if it died before this process looked, the parent is the init process.
    """
    given = os.environ.get(LAUNCHER if in_worker() else WORKFLOW, "")
    return [int(given), os.getppid()] if given.isdecimal() else []


def in_worker() -> bool:
    """Whether torchrun started this process; its launcher then hears of everything first."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _died(pids: list[int], over: threading.Event) -> bool:
    """Wait until one of the processes is gone (True), or ``over`` is set or they cannot be watched (False)."""
    descriptors: list[int] = []
    poll = select.poll()
    try:
        for pid in pids:
            descriptors.append(os.pidfd_open(pid))
            poll.register(descriptors[-1], select.POLLIN)
        while not over.is_set():
            if poll.poll(_LOOK_EVERY):
                return not over.is_set()
    except OSError as error:
        return isinstance(error, ProcessLookupError)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return False
