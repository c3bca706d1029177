"""Folders of the project: ``results/<study>/<run>``, ``data/<name>``, ``params``."""

import os
from pathlib import Path

from tood.config.datasets import DatasetConfig
from tood.io.mirror import mirror_folder
from tood.io.shared_constants import MIRROR

PARAMS = Path("params")
RESULTS = Path("results")
DATA = Path("data")


def dataset_folder(config: DatasetConfig) -> Path:
    return DATA / config.name


def mirror_for(name: str, given: Path | None) -> Path | None:
    """The mirror of a data set: given, or in TOOD_MIRROR; a folder of mirrors may hold one per data set."""
    set_outside = os.environ.get(MIRROR)
    if given is not None:
        chosen = mirror_folder(str(given), f"--mirror {given}")
    elif set_outside:
        chosen = mirror_folder(set_outside, f"{MIRROR}={set_outside}")
    else:
        return None
    return chosen / name if (chosen / name).is_dir() else chosen
