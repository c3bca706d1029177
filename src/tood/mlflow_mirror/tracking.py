"""Synchronisation of MLflow with the files under ``results/``.

One experiment per study, one run per trained model below a parent run. A run is found again by its study,
name and fingerprint. What MLflow has is compared with the files and only what is missing is sent; what cannot be
changed in place (a point or artifact that is no longer in the files, another value of a parameter, another start)
makes a fresh run of the same identity and removes the old one. So the mirror is exact, however often and whenever
it is made.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tood.io.errors import UserError
from tood.mlflow_mirror.address import database_file, mask_credentials, store_address
from tood.mlflow_mirror.artifact_location import as_path
from tood.mlflow_mirror.data_inputs import as_mlflow, from_mlflow
from tood.mlflow_mirror.entries import (
    RUNNING,
    Mirrored,
    Point,
    mirrored_runs,
    mirrored_study,
    run_folders,
)
from tood.mlflow_mirror.logged_models import CONTENT, LoggedModels
from tood.mlflow_mirror.store import open_store
from tood.reporting.flat_settings import MISSING

_KIND = {"mlflow.experimentKind": "custom_model_development"}  # opens the pages of model training
_BATCH_METRICS, _BATCH_PARAMS = 1000, 100  # MLflow's limits for one log_batch


@dataclass(frozen=True)
class SyncReport:
    """Result of a synchronisation: names of runs, the study itself among them."""

    study: str
    tracking_uri: str
    created: tuple[str, ...]
    updated: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]

    def summary(self) -> str:
        """One line for the console."""
        parts = [
            f"{len(names)} {what}"
            for what in ("created", "updated", "replaced", "unchanged")
            if (names := getattr(self, what))
        ]
        return f"{self.study}: {', '.join(parts)} in {self.tracking_uri}"


def sync_study(
    results: Path, study: str, tracking_uri: str | None = None, models: Collection[str] | None = None
) -> SyncReport:
    """Mirror ``results/<study>`` into MLflow at ``tracking_uri`` (see ``store_address``).

    Of the ``models`` those of the named runs are mirrored too, or by default all; the others are left as they are.
    Unfinished runs are mirrored as running. Raises UserError if the study has no runs, a file is broken, or the
    store cannot be used or does not answer (within seconds).
    """
    folder = results / study
    folders = run_folders(folder)
    if not folders:
        raise UserError(f"{folder}: has no run with a config.yaml; train one before mirroring it.")
    uri = store_address(tracking_uri)
    outcomes: dict[str, list[str]] = {"created": [], "updated": [], "replaced": [], "unchanged": []}
    replaced: set[str] = set()
    with open_store(uri, results) as client:
        # Read behind the lock, so that of two that mirror at once the later one writes what is newer.
        runs = mirrored_runs(study, folders)
        parent = mirrored_study(study, folder, runs)
        experiment = _experiment(client, study, local=database_file(uri) is not None)
        present = _present_runs(client, experiment)
        outcome, parent_id = _mirror(client, experiment, parent, present, {}, replaced)
        outcomes[outcome].append(study)
        logged = LoggedModels.of(client, experiment)
        for run in runs:
            extra = {"mlflow.parentRunId": parent_id}
            outcome, run_id = _mirror(client, experiment, run, present, extra, replaced)
            if run.model is not None and (models is None or run.name in models):
                changed = logged.mirror(run.model, run_id, dict(run.identity))
                outcome = "updated" if changed and outcome == "unchanged" else outcome
            outcomes[outcome].append(run.name)
        logged.remove_those_of(replaced)
    return SyncReport(study, mask_credentials(uri, uri), **{key: tuple(names) for key, names in outcomes.items()})


def _mirror(
    client: Any,
    experiment: str,
    wanted: Mirrored,
    present: Sequence[Any],
    extra: dict[str, str],
    replaced: set[str],
) -> tuple[str, str]:
    """Make one MLflow run what it should be; returns what was done and the run's id.

    The id of a run that is removed is added to ``replaced``.
    """
    digest = wanted.digest()
    found = next((run for run in present if wanted.identity.items() <= run.data.tags.items()), None)
    if found is not None and {CONTENT: digest, **extra}.items() <= found.data.tags.items():
        return "unchanged", found.info.run_id
    outcome = "updated" if found is not None else "created"
    missing: Sequence[Point] = wanted.points
    if found is not None:
        known = _known_points(client, found)
        missing = [point for point in wanted.points if point not in known]
        changed = any(wanted.params.get(key, MISSING) != value for key, value in found.data.params.items())
        changed |= wanted.start not in (0, found.info.start_time)
        changed |= bool(set(from_mlflow(found)) - set(wanted.inputs) or known - set(wanted.points))
        if changed or _artifacts(client, found.info.run_id) - wanted.artifact_paths():
            client.delete_run(found.info.run_id)
            replaced.add(found.info.run_id)
            outcome, found, missing = "replaced", None, wanted.points
    if found is None:
        tags = {**wanted.identity, "mlflow.source.name": "tood", **extra}
        found = client.create_run(experiment, start_time=wanted.start or None, tags=tags, run_name=wanted.name)
    run_id = found.info.run_id
    _log(client, run_id, wanted, missing, set(found.data.params), extra)
    if wanted.inputs:
        client.log_inputs(run_id, as_mlflow(wanted.inputs))
    for artifact in wanted.artifacts:
        client.log_artifact(run_id, str(artifact.path), artifact.folder or None)
    if wanted.status == RUNNING:
        client.update_run(run_id, status=RUNNING)
    else:
        client.set_terminated(run_id, wanted.status, wanted.end or None)
    client.set_tag(run_id, CONTENT, digest)
    return outcome, run_id


def _log(
    client: Any,
    run_id: str,
    wanted: Mirrored,
    points: Sequence[Point],
    known: set[str],
    extra: dict[str, str],
) -> None:
    """Send tags, parameters that are not ``known`` yet, and points, in as few calls as MLflow allows."""
    from mlflow.entities import Metric, Param, RunTag

    tags = [RunTag(key, value) for key, value in {**wanted.tags, **extra}.items()]
    params = [Param(key, value) for key, value in wanted.params.items() if key not in known]
    metrics = [Metric(point.key, point.value, point.time, point.step) for point in points]
    client.log_batch(run_id, tags=tags)
    for start in range(0, len(params), _BATCH_PARAMS):
        client.log_batch(run_id, params=params[start : start + _BATCH_PARAMS])
    for start in range(0, len(metrics), _BATCH_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH_METRICS])


def _known_points(client: Any, run: Any) -> set[Point]:
    return {
        Point(metric.key, metric.step, metric.value, metric.timestamp)
        for key in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, key)
    }


def _artifacts(client: Any, run_id: str, folder: str | None = None) -> set[str]:
    """Paths of all artifacts of a run, below its folder of artifacts."""
    found: set[str] = set()
    for entry in client.list_artifacts(run_id, folder):
        found |= _artifacts(client, run_id, entry.path) if entry.is_dir else {entry.path}
    return found


def _experiment(client: Any, study: str, *, local: bool) -> str:
    """The id of the study's experiment, which is made where it is missing.

    MLflow stores absolute paths. In a ``local`` store whose folder was moved or copied since, the old
    experiment would write beside the copy, so it gives its name to a new one.
    """
    found = client.get_experiment_by_name(study)
    if found is None:
        return str(client.create_experiment(study, tags=_KIND))
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    if local and not as_path(found.artifact_location).is_relative_to(Path.cwd()):
        client.rename_experiment(found.experiment_id, f"{study} (elsewhere, {found.experiment_id})")
        client.delete_experiment(found.experiment_id)
        return str(client.create_experiment(study, tags=_KIND))
    return str(found.experiment_id)


def _present_runs(client: Any, experiment: str) -> list[Any]:
    """All runs of an experiment, newest first."""
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
