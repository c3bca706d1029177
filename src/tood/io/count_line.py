"""Time left as text, and the progress line of work that goes through many files."""

import logging
import time


def time_left(seconds: float) -> str:
    """``1h 02m``, ``3m 07s`` or ``12s``."""
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 60}m {whole % 60:02d}s" if whole >= 60 else f"{whole}s"


class CountLine:
    """Logs every few seconds how many of ``total`` things are done, and the time left at the speed so far.

    ``before`` were done by an earlier command.
    """

    def __init__(self, log: logging.Logger, noun: str, total: int, *, before: int = 0, interval: float = 5.0) -> None:
        self._log, self._noun, self._total, self._before, self._interval = log, noun, total, before, interval
        self._started = self._printed = time.monotonic()

    def show(self, done: int) -> None:
        """``done`` things are done, those before included."""
        now = time.monotonic()
        if now - self._printed < self._interval or done >= self._total:
            return
        self._printed = now
        left = (now - self._started) / max(1, done - self._before) * (self._total - done)
        self._log.info("%s of %s %s, %s left", f"{done:,}", f"{self._total:,}", self._noun, time_left(left))
