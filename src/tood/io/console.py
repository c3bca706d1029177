"""What the program says: on the console at once, and in a log file where one is asked for.

Saying something never stops the work: a console that has gone away is given up, and a log file that cannot be
written for now is tried again with the next line.
"""

import errno
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from tood.io.errors import UserError
from tood.io.escape import escape
from tood.io.os_errors import refusal

_log_file: Path | None = None
_log_refused = False


def say(line: str) -> None:
    """Say a line on the console, and in the log file if there is one."""
    _print(line, sys.stdout)
    note(line)


def complain(line: str) -> None:
    """Say a line where errors go, and in the log file if there is one."""
    _print(line, sys.stderr)
    note(line)


def note(text: str) -> None:
    """Write to the log file only, if there is one."""
    global _log_refused
    if _log_file is None:
        return
    try:
        with _log_file.open("a", encoding="utf-8", errors="backslashreplace") as handle:
            handle.write(f"{time.strftime('%H:%M:%S')} {escape(text, lines=True)}\n")
    except OSError as error:
        if not _log_refused:
            _log_refused = True
            _print(f"tood: --log {_log_file}: goes on without it for now ({error.strerror})", sys.stderr)


def _print(line: str, stream: TextIO | None) -> None:
    """Print what the stream can show of a line; one that takes no more is pointed at nothing from then on."""
    if stream is None:  # closed before we began
        return
    encoding = stream.encoding or "utf-8"
    try:
        print(escape(line, lines=True).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except (OSError, ValueError) as error:
        with suppress(OSError, ValueError):  # else the interpreter complains of what it could not print at its end
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)
        if stream is sys.stdout and isinstance(error, OSError) and error.errno not in (errno.EPIPE, errno.EIO):
            _print(f"tood: the console's output cannot be written ({error.strerror}); going on silently", sys.stderr)


def open_log(path: Path | None) -> None:
    """Log to ``path`` from now on; the main process begins it anew. UserError if it cannot be written."""
    global _log_file
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.environ.get("RANK", "0") == "0" and "TORCHELASTIC_RUN_ID" not in os.environ:
            path.write_text("", encoding="utf-8")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # those may pass; what cannot be done without says so
            raise UserError(refusal(f"--log {path}", error)) from error
    _log_file = path


def log_file() -> Path | None:
    """The log file in use."""
    return _log_file


def thread_count(threads: int) -> int:
    """CPU threads to use; 0 means all that this process may."""
    return threads or len(os.sched_getaffinity(0))
