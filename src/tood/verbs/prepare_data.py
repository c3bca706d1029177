"""``tood data prepare``: obtain a data set and convert it into the prepared layout."""

import logging
from pathlib import Path

from tood.config.datasets import DatasetConfig, load_dataset
from tood.data.findings import plural
from tood.data.prepare import prepare_dataset
from tood.io.errors import UserError
from tood.verbs.folders import PARAMS, dataset_folder, mirror_for
from tood.workflow.code_digest import code_behind

log = logging.getLogger(__name__)


def prepare(name: str, mirror: Path | None) -> None:
    """Download or generate, verify and convert the data set described by ``params/datasets/<name>.yaml``."""
    config, source = dataset_and_mirror(name, mirror)
    prepared = prepare_dataset(
        config, dataset_folder(config), mirror=source, params_root=PARAMS, code=code_behind("prepare")
    )
    for note in prepared.notes:
        log.info("  note: %s", note)
    for split in prepared.splits.values():
        log.info("  %-6s %s images  %s boxes", split.name, f"{split.image_count:>7,}", f"{split.box_count:>9,}")
    log.info("%s: %s, ready in %s", prepared.name, plural(len(prepared.classes), "class"), dataset_folder(config))


def dataset_and_mirror(name: str, mirror: Path | None) -> tuple[DatasetConfig, Path | None]:
    """The data set of ``params/datasets/<name>.yaml``, and its mirror if it has an upstream."""
    if not PARAMS.is_dir():
        raise UserError(f"{PARAMS}: no such folder; run this in the project's folder.")
    config = load_dataset(name, PARAMS)
    has_upstream = config.format != "shapes" and config.source is not None
    return config, mirror_for(name, mirror) if has_upstream else None
