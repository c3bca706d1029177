"""Study lock: one Snakemake at a time on a study. Snakemake's own lock would be left behind when it is killed.

Two would remove each other's results, because Snakemake removes a job's outputs before it starts the job.
"""

import os
import time
from pathlib import Path

from filelock import FileLock

from tood.io.errors import UserError
from tood.io.files import read_bytes
from tood.io.lock import try_lock
from tood.io.os_errors import refusal
from tood.io.write import write_text


class StudyLock:
    """The lock of a study, checked when the workflow is read: plans made while another one works are stale."""

    def __init__(self, study: str, folder: Path = Path(".snakemake")) -> None:
        name = study.replace("/", "_")
        self._study = study
        self._owner = folder / f"tood-{name}.owner"
        self._file = folder / f"tood-{name}.lock"
        self._lock: FileLock | None = None
        self._was_held = self._file.exists() and not self._is_free()
        self._last = self._last_owner()

    def take(self) -> None:
        """Hold the lock until this process ends, however it does. Raises UserError if another one has or had it."""
        try:
            lock = try_lock(self._file, patience=0.5)  # another process may be checking the lock
        except OSError as error:
            raise UserError(refusal(self._owner.parent, error)) from error
        last = self._last_owner()
        if lock is None:
            who = f" (process {last.split()[0]})" if last else ""
            raise UserError(
                f"study '{self._study}': another Snakemake{who} is at work on it in this folder; wait for it or stop "
                "it, then repeat the command."
            )
        if self._was_held or last != self._last:
            lock.release()
            raise UserError(
                f"study '{self._study}': another Snakemake ended its work on it just now; repeat the command to go on."
            )
        self._lock = lock
        write_text(self._owner, f"{os.getpid()} {time.time_ns()}\n")

    def _is_free(self) -> bool:
        """Whether nobody holds it at this moment."""
        try:
            lock = try_lock(self._file)
        except OSError:  # then no process here can take it either
            return True
        if lock is not None:
            lock.release()
        return lock is not None

    def _last_owner(self) -> str:
        try:
            return read_bytes(self._owner).decode("utf-8", "replace")
        except UserError:
            return ""
