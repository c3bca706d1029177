"""Provenance of results: git commit, versions, and the command that reproduces them."""

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 20.0  # seconds
_PACKAGES = ("tood", "torch", "torchvision", "numpy", "pycocotools", "snakemake")


@dataclass(frozen=True)
class Provenance:
    """``commit`` and ``changed`` (whether files changed since) are None if git gives none; ``unknown`` says why."""

    command: str
    commit: str | None
    changed: bool | None
    unknown: str
    versions: dict[str, str]


def provenance(study: str, root: Path = Path()) -> Provenance:
    """What it takes to reproduce a study from the project folder ``root``."""
    name, _, other = study.partition("@")
    key = "scale" if (root / "params/scales" / f"{other}.yaml").is_file() else "dataset"
    command = f"snakemake --cores all --config study={name}" + (f" {key}={other}" if other else "")
    commit, unknown, changed = None, "", None
    try:
        commit = _git(root, "rev-parse", "--verify", "HEAD")
        changed = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except _NoAnswerError as error:
        unknown = str(error)
    return Provenance(command, commit, changed, unknown, {"Python": platform.python_version(), **_versions()})


class _NoAnswerError(Exception):
    """Git says nothing; the text is why, in few words."""


def _git(root: Path, *arguments: str) -> str:
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
            timeout=_PATIENCE,
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


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
