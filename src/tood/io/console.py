"""Console and log file: handlers and formatter of ``logging`` for everything that the program prints.

Progress and results of commands (tables, reports) both go through ``logging``: a module has
``log = logging.getLogger(__name__)`` and never prints. Of the records of ``tood`` and the loggers below it

- DEBUG goes to the log file only (tracebacks, the last output of processes),
- INFO to standard output, WARNING and above to standard error, and both to the log file.

The command line attaches the console with ``start``; a program that uses the package as a library sets up logging as
it likes, and nothing is printed unless it does.

Logging never stops the work: a closed console is given up, and a log file that cannot be written for now is tried
again with the next line.
"""

import errno
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from tood.io.errors import UserError
from tood.io.escape import escape
from tood.io.os_errors import refusal

RunLog = logging.LoggerAdapter[logging.Logger]

_tood = logging.getLogger("tood")


def run_log(name: str, run: str) -> RunLog:
    """The logger ``name`` for lines about one run, which begin with the run's name."""
    return logging.LoggerAdapter(logging.getLogger(name), {"run": run})


class LineFormatter(logging.Formatter):
    """Formats a record as a line that is safe on terminals; the attribute ``run`` of a record becomes its prefix."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        run = getattr(record, "run", None)
        if run is not None:
            record.message = f"{run:<12} {record.message}"
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return escape(super().format(record), lines=True)


class _Handler(logging.Handler):
    """Base class of handlers that write lines; a mistake in a record's arguments is reported and stops nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(record, self.format(record))
        except Exception:
            self.handleError(record)

    def write(self, record: logging.LogRecord, line: str) -> None:
        raise NotImplementedError


class _Console(_Handler):
    """Writes to the current ``sys.stdout`` or ``sys.stderr``, which a test or a caller may replace."""

    def write(self, record: logging.LogRecord, line: str) -> None:
        _print(line, sys.stderr if record.levelno >= logging.WARNING else sys.stdout)


class _LogFile(_Handler):
    """A file that is opened for each line: several processes write to it, and its disk may be full for a while."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.DEBUG)
        self.path = path
        self._refused = False

    def write(self, record: logging.LogRecord, line: str) -> None:
        try:
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as handle:
                handle.write(f"{line}\n")
        except OSError as error:
            if not self._refused:
                self._refused = True
                _print(
                    f"tood: --log {escape(self.path, lines=True)}: goes on without it for now ({error.strerror})",
                    sys.stderr,
                )


def _print(line: str, stream: TextIO | None) -> None:
    """Print a line as far as the stream can encode it; a stream that fails is redirected to the null device."""
    if stream is None:  # closed before we began
        return
    encoding = stream.encoding or "utf-8"
    try:
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except (OSError, ValueError) as error:
        with suppress(OSError, ValueError):  # else the interpreter complains at its end about unwritten output
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)
        if stream is sys.stdout and isinstance(error, OSError) and error.errno not in (errno.EPIPE, errno.EIO):
            _print(f"tood: the console's output cannot be written ({error.strerror}); going on silently", sys.stderr)


def start() -> None:
    """Attach the console: from now on log records are printed."""
    if any(isinstance(handler, _Console) for handler in _tood.handlers):
        return
    console = _Console(logging.INFO)
    console.setFormatter(LineFormatter())
    _tood.addHandler(console)
    _tood.setLevel(logging.DEBUG)
    _tood.propagate = False  # libraries that set up handlers of their own would print it a second time


def open_log(path: Path | None) -> None:
    """Log to ``path`` from now on; the main process begins it anew. UserError if it cannot be written."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.environ.get("RANK", "0") == "0" and "TORCHELASTIC_RUN_ID" not in os.environ:
            path.write_text("", encoding="utf-8")
    except OSError as error:
        if error.errno not in (
            errno.ENOSPC,
            errno.EDQUOT,
        ):  # a full disk may get space again, and essential files report it themselves
            raise UserError(refusal(f"--log {path}", error)) from error
    for handler in _log_files():
        _tood.removeHandler(handler)
    log = _LogFile(path)
    log.setFormatter(LineFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    _tood.addHandler(log)


def log_file() -> Path | None:
    """The log file in use."""
    return next((handler.path for handler in _log_files()), None)


def _log_files() -> list[_LogFile]:
    return [handler for handler in _tood.handlers if isinstance(handler, _LogFile)]


def leave_out_progress() -> None:
    """Print no INFO from now on: of the processes of one training only the main one prints progress."""
    for handler in _tood.handlers:
        handler.addFilter(lambda record: record.levelno != logging.INFO)


def thread_count(threads: int) -> int:
    """CPU threads to use; 0 means all that this process may use."""
    return threads or len(os.sched_getaffinity(0))
