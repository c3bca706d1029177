"""``tood sync --follow``: mirror a study into MLflow whenever its trainings have written something."""

import logging
import os
import select
import sys
import time
from pathlib import Path

from tood.io.errors import UserError
from tood.io.shared_constants import SYSTEM_FILE, WORKFLOW
from tood.mlflow_mirror.entries import run_folders
from tood.mlflow_mirror.tracking import sync_study
from tood.verbs.folders import RESULTS

log = logging.getLogger(__name__)

_PAUSE = 2.0
_SHARE = 0.05
"""Of the time, at most, goes into mirroring: also while a server does not answer."""
_NICE = 10  # trainings come first
_FILES = ("config.yaml", "history.csv", SYSTEM_FILE, "train.json", "metrics.json", "alignment.json")


def follow(study: str, address: str | None, *, models: bool) -> None:
    """Mirror until interrupted, or until the workflow that started this ends; nothing that goes wrong ends it.

    Each point of a history is in MLflow soon after it is in the file, and the mirror is always the exact one of the
    files at that time. What goes wrong is said once, and tried again. When the workflow ends, the rest is mirrored.
    """
    os.nice(_NICE)
    ended = _input_ended if os.environ.get(WORKFLOW) else _never
    seen: object = None
    said, over = "", False
    while True:
        began = time.monotonic()
        try:
            state = _state(RESULTS / study)
            if state and state != seen:
                log.info(sync_study(RESULTS, study, address, None if models else ()).summary())
                seen, said = state, ""
        except UserError as error:
            if str(error) != said:
                said = str(error)
                log.info(said)
        if over:
            return
        over = ended(max(_PAUSE, (time.monotonic() - began) / _SHARE))


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files that change while runs are made; empty as long as there is none."""
    files = [run.path / name for run in run_folders(folder) for name in _FILES]
    return [(str(file), (found := file.stat()).st_size, found.st_mtime_ns) for file in files if file.is_file()]


def _input_ended(seconds: float) -> bool:
    """Whether the process that started this one ended, or closed the pipe to it, within so many seconds."""
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable)


def _never(seconds: float) -> bool:
    time.sleep(seconds)
    return False
