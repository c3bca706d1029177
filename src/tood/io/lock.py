"""File locks between processes; the operating system releases them when a process dies."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tood.io.errors import UserError
from tood.io.os_errors import refusal

log = logging.getLogger(__name__)

_PAUSE = 0.2
_SILENCE = 5.0  # seconds of waiting before a line announces it


def try_lock(file: Path, patience: float = 0) -> FileLock | None:
    """The lock ``file``, held until it is released or forgotten; None if another process has it for that long.

    The file is made where it is missing. Raises OSError where it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()  # raises if the file cannot be written, which would look like a lock held by another process
    lock = FileLock(file)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        return None
    return lock


@contextmanager
def lock_file(file: Path, guarded: Path, waiting: Callable[[float], None]) -> Iterator[None]:
    """Hold the lock ``file`` of what is ``guarded`` while the block runs; it is made where it is missing.

    While another process holds it, ``waiting`` is called five times a second with the seconds waited so far; it may
    raise to give up. Raises UserError, which names what is guarded, where the file cannot be written.
    """
    start = time.monotonic()
    while (lock := _try_lock_of(file, guarded)) is None:
        waiting(time.monotonic() - start)
        time.sleep(_PAUSE)
    try:
        yield
    finally:
        lock.release()


def _try_lock_of(file: Path, guarded: Path) -> FileLock | None:
    try:
        return try_lock(file)
    except OSError as error:
        raise UserError(refusal(guarded, error)) from error


def announce_wait(line: str) -> Callable[[float], None]:
    """A function for ``waiting`` of :func:`lock_file` that logs ``line`` once, after five seconds."""
    said = False

    def waiting(seconds: float) -> None:
        nonlocal said
        if seconds >= _SILENCE and not said:
            said = True
            log.info(line)

    return waiting
