"""``tood data prepare``: a data set in the prepared layout."""

from pathlib import Path

from tood.config.dataset import load_dataset
from tood.data.prepare import prepare_dataset
from tood.verbs.locate import PARAMS, Echo, dataset_folder, mirror_for


def prepare(name: str, mirror: Path | None, echo: Echo) -> None:
    """Download or generate, verify and convert the data set described by ``params/datasets/<name>.yaml``."""
    config = load_dataset(name, PARAMS)
    source = mirror_for(name, mirror) if config.format != "shapes" and config.source is not None else None
    prepared = prepare_dataset(config, dataset_folder(config), mirror=source, params_root=PARAMS, echo=echo)
    for note in prepared.notes:
        echo(f"  note: {note}")
    for split in prepared.splits.values():
        echo(f"  {split.name:<6} {split.image_count:>7,} images  {split.box_count:>9,} boxes")
    echo(f"{prepared.name}: {len(prepared.classes)} classes, ready in {dataset_folder(config)}")
