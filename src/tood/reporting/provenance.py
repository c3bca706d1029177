"""Where results come from: commit, versions, and the command that makes them again."""

import importlib.metadata
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PACKAGES = ("tood", "torch", "torchvision", "numpy", "pycocotools", "snakemake")


@dataclass(frozen=True)
class Provenance:
    """``commit`` is None outside a git repository; ``changed`` says whether files differ from that commit."""

    command: str
    commit: str | None
    changed: bool
    versions: dict[str, str]


def provenance(study: str, root: Path = Path()) -> Provenance:
    """What it takes to reproduce a study from the project folder ``root``."""
    name, _, other = study.partition("@")
    key = "scale" if (root / "params/scales" / f"{other}.yaml").is_file() else "dataset"
    command = f"snakemake --cores all --config study={name}" + (f" {key}={other}" if other else "")
    commit = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain", "--untracked-files=no") if commit else None
    return Provenance(command, commit, bool(status), {"Python": platform.python_version(), **_versions()})


def _git(root: Path, *arguments: str) -> str | None:
    """Output of a git command; None where there is no git, no repository or no commit."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
