"""MLflow is an exact mirror of the files."""

from typing import Any

import mlflow
import pytest
from tiny_project import Project


@pytest.fixture
def client(finished: Project, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return mlflow.MlflowClient(f"sqlite:///{finished.folder / 'mlflow.db'}")


def runs_of(client: Any, study: str = "demo") -> dict[str, Any]:
    experiment = client.get_experiment_by_name(study)
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def contents(client: Any) -> dict[str, tuple[Any, ...]]:
    return {name: (run.info.run_id, run.data.metrics, run.data.params) for name, run in runs_of(client).items()}


def test_the_workflow_mirrors_the_study(finished: Project, client: Any) -> None:
    runs = runs_of(client)
    assert runs.keys() == {"demo", "tood", "atss"}
    parent = runs["demo"].info.run_id
    assert {runs[name].data.tags["mlflow.parentRunId"] for name in ("tood", "atss")} == {parent}
    assert runs["tood"].data.params.keys() == runs["atss"].data.params.keys()
    history = client.get_metric_history(runs["tood"].info.run_id, "val/AP")
    assert len(history) == 2
    assert "AP50" in runs["tood"].data.metrics


def test_runs_have_their_models_data_and_code(finished: Project, client: Any) -> None:
    finished.run("tood", "sync")  # the copied folder keeps its artifacts in a place of its own
    experiment = client.get_experiment_by_name("demo").experiment_id
    runs = runs_of(client)
    models = {model.source_run_id: model for model in client.search_logged_models([experiment])}
    assert models.keys() == {runs[name].info.run_id for name in ("tood", "atss")}
    for name in ("tood", "atss"):
        inputs = {one.tags[0].value: one.dataset for one in runs[name].inputs.dataset_inputs}
        assert inputs.keys() == {"train", "val"}
        assert {one.name for one in inputs.values()} == {"shapes"}
        assert len(runs[name].data.tags["tood.code"]) == 16


def test_a_process_of_its_own_follows_the_trainings(finished: Project) -> None:
    assert (finished.folder / "results/logs/demo/follow.log").is_file()


def test_mirroring_again_changes_nothing(finished: Project, client: Any) -> None:
    finished.run("tood", "sync")  # the copied folder keeps its artifacts in a place of its own
    before = contents(client)
    points = len(client.get_metric_history(before["tood"][0], "train/loss"))
    said = finished.run("tood", "sync")
    assert "3 unchanged" in said
    assert before == contents(client)
    assert len(client.get_metric_history(before["tood"][0], "train/loss")) == points


def test_a_dead_server_is_one_sentence(finished: Project) -> None:
    said = finished.run("tood", "sync", "--to", "http://127.0.0.1:9", status=75)
    assert said.count("\n") == 1
    assert "127.0.0.1:9" in said
