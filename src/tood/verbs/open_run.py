"""Opening a run: its study, configuration and data set."""

from pathlib import Path

from tood.config.datasets import DatasetConfig
from tood.config.study import RunConfig, Study, load_study
from tood.data.prepared import PreparedDataset, open_prepared
from tood.io.errors import UserError
from tood.verbs.folders import PARAMS, RESULTS, dataset_folder


def study_at(folder: Path) -> Study:
    """The study of ``results/<study>/<run>``, composed from ``params/``."""
    return load_study(_below_results(folder).parent.as_posix(), PARAMS)


def run_at(folder: Path) -> RunConfig:
    """The configuration of the run with the folder ``results/<study>/<run>``."""
    return study_at(folder).run(folder.name)


def _below_results(folder: Path) -> Path:
    try:
        inside = (Path.cwd() / folder).resolve().relative_to(RESULTS.resolve())
    except ValueError:
        inside = Path()
    if len(inside.parts) < 2:
        raise UserError(f"--run {folder}: must be a folder {RESULTS}/<study>/<run>.")
    return inside


def open_dataset(config: DatasetConfig) -> PreparedDataset:
    """Open the prepared data set; UserError says how to prepare it."""
    folder = dataset_folder(config)
    if not (folder / "dataset.json").exists():
        raise UserError(f"{folder}/dataset.json: no such file; make it with: tood data prepare {config.name}")
    return open_prepared(folder)
