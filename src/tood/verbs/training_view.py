"""What lies beside a training's history while it runs, so that a mirror can follow it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tood.io.shared_constants import SYSTEM_FILE
from tood.io.write import write_yaml
from tood.training.job import Job
from tood.training.processes.system_metrics import system_metrics
from tood.training.trainer import Trainer


@contextmanager
def in_view(job: Job, trainer: Trainer) -> Iterator[Path]:
    """Write the configuration and the history so far; gives the file of the machine's load, which may be written.

    All three are of one training, also where the folder has files of one that was broken off.
    """
    beside = job.history_file.parent
    trainer.history.write(job.history_file)
    write_yaml(beside / "config.yaml", job.config.model_dump(mode="json"))
    with system_metrics(beside / SYSTEM_FILE, fresh=trainer.step == 0):
        yield beside / SYSTEM_FILE


def keep_load(load: Path | None, folder: Path) -> None:
    """Put the file of the machine's load beside the results, or take away that of an earlier training."""
    if load is not None and load.is_file():
        load.replace(folder / SYSTEM_FILE)
    else:
        (folder / SYSTEM_FILE).unlink(missing_ok=True)
