"""Looking into the MLflow store of the working folder."""

import base64
from pathlib import Path
from typing import Any

import pandas as pd
import pytest


def address() -> str:
    return f"sqlite:///{Path.cwd()}/mlflow.db"


def client(uri: str | None = None) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri or address())


def stored(study: str, uri: str | None = None) -> list[Any]:
    """Active runs of the study's experiment, by name."""
    experiment = client(uri).get_experiment_by_name(study)
    runs = client(uri).search_runs([experiment.experiment_id])
    return sorted(runs, key=lambda run: run.info.run_name)


def only(study: str, name: str) -> Any:
    (run,) = (run for run in stored(study) if run.info.run_name == name)
    return run


def models(study: str) -> list[Any]:
    """Active logged models of the study's experiment."""
    experiment = client().get_experiment_by_name(study)
    return list(client().search_logged_models([experiment.experiment_id]))


def pyfunc(run: Path) -> Any:
    """The model of a run as MLflow loads it."""
    import mlflow

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", address())
        return mlflow.pyfunc.load_model(f"runs:/{only('cells', run.name).info.run_id}/model")


def row(picture: Path) -> pd.DataFrame:
    """What such a model takes."""
    return pd.DataFrame({"image": [base64.b64encode(picture.read_bytes()).decode()]})
