"""What the program says: on the console at once, and in a log file where one is asked for.

All of it goes through ``logging``, what a command prints as its result (a table, a report) like its progress: a module
has ``log = logging.getLogger(__name__)`` and never prints. Of the records of ``tood`` and the loggers below it

- DEBUG goes to the log file only (tracebacks, the last words of processes),
- INFO to standard output, WARNING and above to standard error, and both to the log file.

``start`` attaches the console, which the command line does; a program that uses the package as a library sets up
logging as it likes, and nothing is printed unless it does.

Saying something never stops the work: a console that has gone away is given up, and a log file that cannot be
written for now is tried again with the next line.
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
    """The line of a record, harmless to terminals; a record with the attribute ``run`` begins with its value."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        run = getattr(record, "run", None)
        if run is not None:
            record.message = f"{run:<12} {record.message}"
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return escape(super().format(record), lines=True)


class _Handler(logging.Handler):
    """A handler for lines; a mistake in a record's arguments is reported and stops nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(record, self.format(record))
        except Exception:
            self.handleError(record)

    def write(self, record: logging.LogRecord, line: str) -> None:
        raise NotImplementedError


class _Console(_Handler):
    """The console as it is when a line is said, for a test or a caller may replace ``sys.stdout``."""

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
    """Print what the stream can show of a line; one that takes no more is pointed at nothing from then on."""
    if stream is None:  # closed before we began
        return
    encoding = stream.encoding or "utf-8"
    try:
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except (OSError, ValueError) as error:
        with suppress(OSError, ValueError):  # else the interpreter complains of what it could not print at its end
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)
        if stream is sys.stdout and isinstance(error, OSError) and error.errno not in (errno.EPIPE, errno.EIO):
            _print(f"tood: the console's output cannot be written ({error.strerror}); going on silently", sys.stderr)


def start() -> None:
    """Say on the console from now on what is logged."""
    if any(isinstance(handler, _Console) for handler in _tood.handlers):
        return
    console = _Console(logging.INFO)
    console.setFormatter(LineFormatter())
    _tood.addHandler(console)
    _tood.setLevel(logging.DEBUG)
    _tood.propagate = False  # libraries that set up handlers of their own would say it a second time


def open_log(path: Path | None) -> None:
    """Log to ``path`` from now on; the main process begins it anew. UserError if it cannot be written."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.environ.get("RANK", "0") == "0" and "TORCHELASTIC_RUN_ID" not in os.environ:
            path.write_text("", encoding="utf-8")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # those may pass; what cannot be done without says so
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
    """Say no INFO from now on: of the processes of one training, the main one speaks for all."""
    for handler in _tood.handlers:
        handler.addFilter(lambda record: record.levelno != logging.INFO)


def thread_count(threads: int) -> int:
    """CPU threads to use; 0 means all that this process may."""
    return threads or len(os.sched_getaffinity(0))
