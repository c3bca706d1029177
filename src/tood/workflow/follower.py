"""The process that mirrors a study into MLflow while a workflow trains it, beside the rule that does it at the end."""

import logging
import subprocess
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)


class Follower:
    """``tood sync --follow``, of its own and with low priority: no training waits for it, whatever MLflow does."""

    def __init__(self, study: str, file: Path) -> None:
        """``file`` takes what it says."""
        self._command = ["tood", "sync", "--follow", "--study", study, "--log", str(file)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """It ends by itself when this process does, whose pipe it watches. Never raises."""
        quiet = subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True
            )
        except OSError as error:
            log.info("note: MLflow does not follow the trainings (%s); it has everything at the end", error)

    def end(self) -> None:
        """Let it end when it has done what it is at; nobody waits for it."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
