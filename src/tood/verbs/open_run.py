"""Opening a run: its study, configuration and data set."""

import os
from pathlib import Path

from tood.config.datasets import DatasetConfig, split_names
from tood.config.messages import nearest
from tood.config.study import RunConfig, Study, load_study
from tood.config.study_file import Selection
from tood.data.prepared import PreparedDataset, open_prepared
from tood.io.errors import UserError
from tood.verbs.folders import PARAMS, RESULTS, dataset_folder

_FILES = (".pt", ".yaml", ".json", ".csv", ".npz", ".png", ".html")
"""Suffixes of what is in a run's folder."""


def study_at(folder: Path) -> Study:
    """The study of ``results/<study>/<run>``, composed from ``params/``."""
    inside = below_results(folder)
    reference = inside.parent.as_posix()
    study = load_study(reference, PARAMS)
    if inside.name in study.runs or not study.repeats_seeds:
        return study
    return load_study(reference, PARAMS, selection=Selection.of_run(inside.name))  # of other methods or seeds


def run_at(folder: Path) -> RunConfig:
    """The configuration of the run with the folder ``results/<study>/<run>``."""
    return study_at(folder).run(folder.name)


def below_results(folder: Path) -> Path:
    """``<study>/<run>``, however the folder was written. UserError says what is likely meant."""
    inside = _relative(Path(os.path.abspath(folder)), Path(os.path.abspath(RESULTS)))
    if inside is None:
        try:
            inside = _relative(folder.resolve(), RESULTS.resolve()) or Path()
        except (OSError, ValueError):  # no name of a file
            inside = Path()
    if len(inside.parts) > 1 and not (os.path.isfile(folder) or folder.suffix in _FILES):  # a run's name has no dot
        return inside
    raise UserError(f"--run {folder}: must be a folder {RESULTS}/<study>/<run>{_meant(folder, inside)}")


def _relative(path: Path, root: Path) -> Path | None:
    return path.relative_to(root) if path.is_relative_to(root) else None


def _meant(folder: Path, inside: Path) -> str:
    """The end of a sentence that ``folder`` is no run's: which one is likely meant, or where to run the command."""
    if len(inside.parts) > 2:
        return f", not a file in it; did you mean '{RESULTS / inside.parent}'?"
    if not (PARAMS / "studies").is_dir():
        above = [place for place in Path(os.path.abspath(folder)).parents if os.path.isdir(place / PARAMS / "studies")]
        return f"; run this in the project's folder{f', {above[0]}' if above else ''}."
    runs = sorted(path.parent.as_posix() for path in RESULTS.glob("**/config.yaml"))
    written = folder.as_posix()
    ending = [run for run in runs if run.endswith(f"/{written}")]
    if not ending and os.path.isfile(PARAMS / "studies" / f"{folder.parent}.yaml"):
        ending = [(RESULTS / folder).as_posix()]
    return f"; did you mean '{ending[0]}'?" if ending else nearest(written, runs)


def check_split(dataset: DatasetConfig, split: str) -> None:
    """Refuse a ``split`` of the command line that a data set does not have."""
    names = split_names(dataset)
    if split not in names:
        raise UserError(f"--split {split}: data set '{dataset.name}' has no such split{nearest(split, names)}")


def open_dataset(config: DatasetConfig) -> PreparedDataset:
    """Open the prepared data set; UserError says how to prepare it."""
    folder = dataset_folder(config)
    if not (folder / "dataset.json").exists():
        raise UserError(f"{folder}/dataset.json: no such file; make it with: tood data prepare {config.name}")
    return open_prepared(folder)
