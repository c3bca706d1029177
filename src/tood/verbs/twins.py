"""Twins: equal trainings of other studies; the same configuration, data, seed and code give the same weights."""

import shutil
from pathlib import Path

from tood.config.study import RunConfig
from tood.io.errors import UserError
from tood.io.read import read_json
from tood.io.write import atomic_path, write_json, write_yaml
from tood.training.results import publish, staging_folder
from tood.weights.model_file import load_model, save_model
from tood.workflow.standing import Expected, training_standing


def find_twin(results: Path, folder: Path, expected: Expected, precision: str) -> Path | None:
    """The folder of a finished run that trained what is ``expected`` in this number format; None without one."""
    for summary in sorted(results.rglob("train.json")):
        other = summary.parent
        if other.resolve() == folder.resolve():
            continue
        try:
            same_format = read_json(summary).get("precision") == precision
        except (UserError, AttributeError):
            continue  # a broken file of another run is reported by that run
        if same_format and training_standing(other, expected).state == "current":
            return other
    return None


def adopt(twin: Path, folder: Path, config: RunConfig) -> None:
    """Write the result files of the training of ``config`` into ``folder``, copied from its twin.

    Raises UserError if the twin's model is broken.
    """
    model = load_model(twin / "model.pt")
    staged = staging_folder(folder / "state", config.fingerprint)
    write_yaml(staged / "config.yaml", config.model_dump(mode="json"))
    digest = save_model(staged / "model.pt", config, model.classes, model.category_ids, model.detector)
    with atomic_path(staged / "history.csv") as path:
        shutil.copyfile(twin / "history.csv", path)
    kept = read_json(twin / "train.json")
    changed = {"fingerprint": config.fingerprint, "model": digest, "taken_from": twin.as_posix()}
    write_json(staged / "train.json", {**kept, **changed})
    publish(staged, folder)
