"""The commit of the project's folder, for the record; nothing depends on it."""

import os
import subprocess
from dataclasses import dataclass

_SECONDS = 5.0
_DIRTY = "-dirty"


@dataclass(frozen=True)
class SourceCommit:
    """``changed`` says that tracked files differed from the commit."""

    commit: str
    changed: bool


def source_commit() -> SourceCommit | None:
    """None where the folder is not under git, or git is not there or does not answer in time."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        asked = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    said = asked.stdout.strip()
    return SourceCommit(said.removesuffix(_DIRTY), said.endswith(_DIRTY)) if said else None
