"""A training that another study has already done: same configuration, data, seed and code give the same weights."""

import shutil
from pathlib import Path
from typing import Any

from tood.config.study import RunConfig
from tood.data.prepared import PreparedDataset
from tood.io.errors import UserError
from tood.io.read import read_json
from tood.io.write import atomic_path, write_json, write_yaml
from tood.weights.model_file import load_model, save_model

_KNOWN_WEIGHTS = ("none", "imagenet", "generated")


def find_twin(
    results: Path, folder: Path, config: RunConfig, prepared: PreparedDataset, *, code: str, precision: str
) -> Path | None:
    """The folder of a finished run that trained what ``config`` asks for; None without one.

    ``code`` is the digest of the code that trains, ``precision`` the number format it would use here. Runs that
    start from a file are never twins, for the configuration names that file and not its content.
    """
    weights = config.backbone.weights
    if weights not in _KNOWN_WEIGHTS and not weights.startswith("https://"):
        return None
    wanted = {"fingerprint": config.fingerprint, "data": prepared.fingerprint, "code": code, "precision": precision}
    for summary in sorted(results.rglob("train.json")):
        other = summary.parent
        if other.resolve() == folder.resolve() or not (other / "history.csv").exists():
            continue
        kept = _summary(summary)
        if {key: kept.get(key) for key in wanted} == wanted and (other / "model.pt").exists():
            return other
    return None


def adopt(twin: Path, folder: Path, config: RunConfig) -> None:
    """Write into ``folder`` what the training of ``config`` would write, taken from its twin.

    Raises UserError if the twin's model is broken.
    """
    model = load_model(twin / "model.pt")
    write_yaml(folder / "config.yaml", config.model_dump(mode="json"))
    save_model(folder / "model.pt", config, model.classes, model.category_ids, model.detector)
    with atomic_path(folder / "history.csv") as path:
        shutil.copyfile(twin / "history.csv", path)
    write_json(folder / "train.json", {**_summary(twin / "train.json"), "taken_from": twin.as_posix()})


def _summary(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except UserError:
        return {}  # another run's broken file is for that run to complain about
    return content if isinstance(content, dict) else {}
