"""The commit of the project's folder, for the record; nothing depends on it."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 20.0  # seconds


@dataclass(frozen=True)
class SourceCommit:
    """Both are None if git gives none; ``unknown`` says why."""

    commit: str | None
    changed: bool | None
    """Whether tracked files differ from the commit."""
    unknown: str


def source_commit(root: Path = Path(), patience: float | None = None) -> SourceCommit:
    """That of the folder ``root``; each of git's two answers may take ``patience`` seconds, 20 by default."""
    commit, patience = None, patience or _PATIENCE
    try:
        commit = _git(root, patience, "rev-parse", "--verify", "HEAD")
        changed = bool(_git(root, patience, "status", "--porcelain", "--untracked-files=no"))
    except _NoAnswerError as error:
        return SourceCommit(commit, None, str(error))
    return SourceCommit(commit, changed, "")


class _NoAnswerError(Exception):
    """Git says nothing; the text is why, in few words."""


def _git(root: Path, patience: float, *arguments: str) -> str:
    """Output of a git command that changes nothing."""
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise _NoAnswerError(_reason(error.stderr)) from error
    except subprocess.TimeoutExpired as error:
        raise _NoAnswerError("git did not answer in time") from error
    except OSError as error:
        raise _NoAnswerError("git is not installed") from error
    return done.stdout.strip()


def _reason(said: str) -> str:
    reasons = {
        "not a git repository": "the project is not in a git repository",
        "Needed a single revision": "the git repository has no commit",
        "dubious ownership": "the git repository belongs to another user",
    }
    return next((reason for words, reason in reasons.items() if words in said), "git cannot read the repository")
