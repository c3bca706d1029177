"""Folders of the project: ``results/<study>/<run>``, ``data/<name>``, ``params``."""

import os
from pathlib import Path

from tood.config.datasets import DatasetConfig
from tood.io.errors import UserError
from tood.io.shared_constants import MIRROR

PARAMS = Path("params")
RESULTS = Path("results")
DATA = Path("data")


def dataset_folder(config: DatasetConfig) -> Path:
    return DATA / config.name


def mirror_for(name: str, given: Path | None) -> Path | None:
    """The mirror of a data set: given, or in TOOD_MIRROR; a folder of mirrors may hold one per data set."""
    set_outside = os.environ.get(MIRROR)
    chosen = given or (Path(set_outside) if set_outside else None)
    if chosen is None:
        return None
    if not chosen.is_dir():
        raise UserError(f"mirror {chosen}: no such folder; set mirror to the folder that holds the files of '{name}'.")
    return chosen / name if (chosen / name).is_dir() else chosen
