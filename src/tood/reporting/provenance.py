"""Provenance of results: git commit, versions, and the command that reproduces them."""

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

from tood.io.source_commit import source_commit

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
    found = source_commit(root)
    versions = {"Python": platform.python_version(), **_versions()}
    return Provenance(command, found.commit, found.changed, found.unknown, versions)


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
