"""A run's detector in the form of an MLflow model: what it consists of, and the folder that is logged.

Weights are neither pickled nor copied: the folder lacks ``model.pt``, which is linked or sent into its place.
"""

import base64
import hashlib
import importlib.metadata
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tood.data.box_drawing import SHOWN_SCORE
from tood.evaluation.threshold_file import NAME as THRESHOLDS_FILE
from tood.io.digests import file_digest
from tood.reporting.run_folder import RunFolder

ARTIFACTS = "artifacts"
"""Folder of ``model.pt`` and ``thresholds.json`` in a logged model."""
WEIGHTS = "model.pt"
DIGEST = "tood.weights"
"""Where the metadata of an MLflow model has the SHA-256 of its weights."""
_CODE = Path(__file__).with_name("served_detector.py")
_FORM = 1
"""Part of every model's digest; another number has all models logged anew."""
_RECORDED = ("torch", "torchvision")
_INSTALLED = (
    "mlflow",
    "defusedxml",
    "matplotlib",
    "numpy",
    "pandas",
    "pillow",
    "psutil",
    "pycocotools",
    "pydantic",
    "pyyaml",
    "timm",
)
"""What ``tood.load`` imports besides; the package itself is in no index, so that it cannot be required by name."""


@dataclass(frozen=True)
class ModelEntry:
    """The model of a finished run, as it is to be logged."""

    folder: Path
    """The run's."""
    weights: str
    """SHA-256 of ``model.pt``, as training recorded it."""
    thresholds: str
    """SHA-256 of ``thresholds.json``; empty where there is none."""
    threshold: float
    """The lowest score that is given by default, as by ``tood predict``."""
    versions: Mapping[str, str]
    """Of the libraries that trained it."""

    @property
    def file(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def thresholds_file(self) -> Path | None:
        return self.folder / THRESHOLDS_FILE if self.thresholds else None

    def digest(self) -> str:
        """Changes whenever a model has to be logged anew."""
        content = [_FORM, self.weights, self.thresholds, self.threshold, dict(self.versions)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def model_entry(run: RunFolder) -> ModelEntry | None:
    """The model of a run that is trained and evaluated; None where there is neither a file nor a record of it."""
    kept = run.training()
    file, thresholds = run.path / WEIGHTS, run.path / THRESHOLDS_FILE
    weights = kept.model or (file_digest(file) if file.is_file() else None)
    if weights is None:
        return None
    stored = run.thresholds()
    best = SHOWN_SCORE if stored is None or stored.overall is None else stored.overall.chosen.threshold
    versions = {name: kept.versions[name] for name in _RECORDED if name in kept.versions}
    return ModelEntry(run.path, weights, file_digest(thresholds) if stored is not None else "", best, versions)


def write_model(target: Path, entry: ModelEntry, model_id: str, run_id: str) -> None:
    """Fill the folder ``target``, which does not exist yet, with all files of a model but its weights."""
    from mlflow import pyfunc
    from mlflow.models import Model

    placeholder = target.with_name("placeholder") / WEIGHTS
    placeholder.parent.mkdir()
    placeholder.touch()
    artifacts = {"model": placeholder, "thresholds": entry.thresholds_file}
    model = Model(model_uuid=model_id, model_id=model_id, run_id=run_id)
    pyfunc.save_model(
        target,
        python_model=_CODE,
        artifacts={name: str(path) for name, path in artifacts.items() if path is not None},
        signature=_signature(entry.threshold),
        input_example=_input_example(),
        pip_requirements=_requirements(entry.versions),
        model_config={"device": "cpu"},
        mlflow_model=model,
        metadata={DIGEST: entry.weights},
    )
    flavor = model.flavors[pyfunc.FLAVOR_NAME]
    flavor["model_code_path"] = _CODE.name  # MLflow looks for the name alone; the folder is this machine's
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = (entry.folder / Path(artifact["path"]).name).as_posix()
    model.model_size_bytes = entry.file.stat().st_size + sum(
        path.stat().st_size for path in target.rglob("*") if path.is_file()
    )
    model.save(target / "MLmodel")
    (target / ARTIFACTS / WEIGHTS).unlink()


def _signature(threshold: float) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    numbers = Array(DataType.double)
    found = [(Array(numbers), "boxes"), (Array(DataType.string), "labels"), (numbers, "scores")]
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "image")]),
        outputs=Schema([ColSpec(kind, name) for kind, name in found]),
        params=ParamSchema([ParamSpec("threshold", DataType.double, threshold)]),
    )


def _input_example() -> Any:
    """A generated picture, the same for all models: a light disc on dark ground."""
    import pandas as pd

    y, x = np.mgrid[:96, :128]
    disc = (x - 64) ** 2 + (y - 48) ** 2 < 30**2
    picture = np.where(disc[..., None], (214, 160, 120), (40, 44, 52)).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    return pd.DataFrame({"image": [base64.b64encode(content.getvalue()).decode()]})


def _requirements(recorded: Mapping[str, str]) -> list[str]:
    """Libraries pinned: as recorded with the training, or else as installed; without builds such as ``+cu128``."""
    versions = {name: importlib.metadata.version(name) for name in (*_INSTALLED, *_RECORDED)} | dict(recorded)
    return [f"{name}=={version.partition('+')[0]}" for name, version in versions.items()]
