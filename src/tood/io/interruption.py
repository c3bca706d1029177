"""SIGTERM and SIGINT as exceptions, so that a command that is asked to end leaves nothing half done and says so."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SAME_REQUEST = 1.0
"""Seconds within which a signal that comes again is no second decision of anybody.

``timeout`` and workflow engines send theirs to a process and to its group.
"""


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt no Exception, so that nothing takes it for a failure of its own."""


@contextmanager
def interruptions_raised() -> Iterator[None]:
    """In the block, SIGTERM raises Terminated and SIGINT KeyboardInterrupt, where the process does not ignore them."""
    last = -SAME_REQUEST

    def ask(number: int, _: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before > SAME_REQUEST:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    usual: dict[signal.Signals, Any] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    if threading.current_thread() is not threading.main_thread():
        usual = {}  # only the main thread may
    taken = [number for number, handler in usual.items() if signal.getsignal(number) == handler]
    for number in taken:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, usual[number])
