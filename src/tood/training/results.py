"""Result files of a finished training: four files, moved into the run's folder when all of them are complete."""

import shutil
from pathlib import Path

FILES = ("config.yaml", "history.csv", "model.pt", "train.json")
"""The last one describes the others."""
_STAGED = "finished"


def staging_folder(state: Path, fingerprint: str) -> Path:
    """An empty folder, on the run's disk, to write the four files into."""
    folder = state / fingerprint / _STAGED
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def publish(staged: Path, run: Path) -> None:
    """Put the files of a complete staging folder in the place of those of an earlier training."""
    for name in FILES:
        if (staged / name).is_file():  # else it was moved before a kill
            (staged / name).replace(run / name)
    shutil.rmtree(staged, ignore_errors=True)


def interrupted(run: Path) -> list[Path]:
    """Complete staging folders of a run: a kill cut ``publish`` short, and its files may be of two trainings."""
    last = [staged / FILES[-1] for staged in sorted(run.glob(f"state/*/{_STAGED}"))]
    return [file.parent for file in last if file.is_file() and file.stat().st_size]


def publish_interrupted(run: Path) -> None:
    """Go on where a kill cut ``publish`` short, so that the files of a run are of one training."""
    for staged in interrupted(run):
        publish(staged, run)
