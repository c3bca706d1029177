"""The files that every project begins with: parameters, rules, profiles, pipelines.

Their one source is the root of the repository. A wheel carries a copy along in ``tood/project``, which ``setup.py``
makes with this module before anything is installed: it imports the standard library alone.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

NAMES = (
    ".dvcignore",
    ".gitignore",
    "Snakefile",
    "config",
    "data/README.md",
    "dvc.yaml",
    "params",
    "profiles",
    "results/README.md",
    "workflow",
)
"""Files and folders, from the repository's root."""

_PACKAGE = Path(__file__).parents[1]
_MADE = ("workflow/dvc/reported",)
"""What commands write among them, about one project's results."""


def packaged_in(package: Path) -> Path:
    """Where a built package has its copy."""
    return package / "project"


def files_root() -> Path | None:
    """The folder with the files: in the installed package, else the clone that it runs from; None without either."""
    places = (packaged_in(_PACKAGE), _PACKAGE.parents[1])
    return next((place for place in places if all((place / name).exists() for name in NAMES)), None)


def project_files(root: Path) -> list[Path]:
    """The files below ``root``, by their path from there, without what tools leave among them."""
    return sorted(file for name in NAMES for file in _below(root, Path(name)))


def _below(root: Path, path: Path) -> Iterator[Path]:
    if not (root / path).is_dir():
        yield path
    elif path.as_posix() not in _MADE:
        for entry in os.listdir(root / path):
            if not entry.startswith(".") and entry != "__pycache__" and not entry.endswith(".lock"):
                yield from _below(root, path / entry)


def copy_files(root: Path, target: Path) -> list[Path]:
    """Copy the files to below ``target``; returns their new paths. Raises OSError.

    The copies are the user's own to edit, whatever the permissions of the package: only what can be run stays so.
    """
    copies = []
    for file in project_files(root):
        copy = target / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, copy)
        if os.access(root / file, os.X_OK):
            mode = copy.stat().st_mode
            copy.chmod(mode | (mode & 0o444) >> 2)
        copies.append(copy)
    return copies
