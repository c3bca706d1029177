"""One process at a time: locks on files, which the system gives back when a process dies."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tood.errors import UserError
from tood.failures import refusal

_PAUSE = 0.2
_SILENCE = 5.0  # seconds of waiting of which nothing is said


@contextmanager
def held(file: Path, guarded: Path, waiting: Callable[[float], None]) -> Iterator[None]:
    """Hold the lock ``file`` of what is ``guarded`` while the block runs; it is made where it is missing.

    While another process holds it, ``waiting`` is called five times a second with the seconds waited so far; it may
    raise to give up. Raises UserError, which names what is guarded, where the file cannot be written.
    """
    lock = FileLock(file)
    start = time.monotonic()
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()  # raises where nothing can be written, which would look like a lock held by another
            lock.acquire(timeout=0)
            break
        except Timeout:
            waiting(time.monotonic() - start)
            time.sleep(_PAUSE)
        except OSError as error:
            raise UserError(refusal(guarded, error)) from error
    try:
        yield
    finally:
        lock.release()


def saying(echo: Callable[[str], None], line: str) -> Callable[[float], None]:
    """What to do while waiting: say ``line`` once, after five seconds."""
    said = False

    def waiting(seconds: float) -> None:
        nonlocal said
        if seconds >= _SILENCE and not said:
            said = True
            echo(line)

    return waiting
