"""``tood data prepare``: a data set in the prepared layout."""

from pathlib import Path

from tood.config.datasets import DatasetConfig, load_dataset
from tood.data.findings import plural
from tood.data.prepare import prepare_dataset
from tood.io.errors import UserError
from tood.verbs.folders import PARAMS, Echo, dataset_folder, mirror_for
from tood.workflow.code_digest import code_behind


def prepare(name: str, mirror: Path | None, echo: Echo) -> None:
    """Download or generate, verify and convert the data set described by ``params/datasets/<name>.yaml``."""
    config, source = described(name, mirror)
    prepared = prepare_dataset(
        config, dataset_folder(config), mirror=source, params_root=PARAMS, echo=echo, code=code_behind("prepare")
    )
    for note in prepared.notes:
        echo(f"  note: {note}")
    for split in prepared.splits.values():
        echo(f"  {split.name:<6} {split.image_count:>7,} images  {split.box_count:>9,} boxes")
    echo(f"{prepared.name}: {plural(len(prepared.classes), 'class')}, ready in {dataset_folder(config)}")


def described(name: str, mirror: Path | None) -> tuple[DatasetConfig, Path | None]:
    """The data set of ``params/datasets/<name>.yaml``, and its mirror if it has an upstream."""
    if not PARAMS.is_dir():
        raise UserError(f"{PARAMS}: no such folder; run this in the project's folder.")
    config = load_dataset(name, PARAMS)
    has_upstream = config.format != "shapes" and config.source is not None
    return config, mirror_for(name, mirror) if has_upstream else None
