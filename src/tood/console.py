"""What the program says: on the console at once, and in a log file where one is asked for."""

import os
import time
from pathlib import Path

from tood.errors import UserError

_log_file: Path | None = None


def say(line: str) -> None:
    """Say a line on the console, and in the log file if there is one."""
    print(line, flush=True)
    note(line)


def note(text: str) -> None:
    """Write to the log file only, if there is one."""
    if _log_file is not None:
        with _log_file.open("a", encoding="utf-8") as handle:
            handle.write(f"{time.strftime('%H:%M:%S')} {text}\n")


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
        raise UserError(f"--log {path}: cannot be written: {error.strerror}.") from error
    _log_file = path


def log_file() -> Path | None:
    """The log file in use."""
    return _log_file


def thread_count(threads: int) -> int:
    """CPU threads to use; 0 means all that this process may."""
    return threads or len(os.sched_getaffinity(0))
