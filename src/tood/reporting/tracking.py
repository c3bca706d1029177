"""MLflow as a mirror of the files under ``results/``.

One experiment per study, one run per trained model below a parent run. A run is found again by its study,
name and fingerprint. What MLflow has is compared with the files and only what is missing is sent; what cannot
be changed in place (a point or artifact that is no longer in the files, another value of a parameter) makes a
fresh run of the same identity and removes the old one. So the mirror is exact, however often and whenever it is made.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from tood.errors import UserError
from tood.reporting.mirrored import (
    RUNNING,
    Mirrored,
    Point,
    mirrored_runs,
    mirrored_study,
    run_folders,
)
from tood.reporting.settings import MISSING

_SQLITE = "sqlite:///"
DEFAULT_URI = f"{_SQLITE}mlflow.db"
_CONTENT = "tood.content"  # tag, set last: digest of what was mirrored
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # opens the pages of model training
_BATCH_METRICS, _BATCH_PARAMS = 1000, 100  # MLflow's limits for one log_batch
_PROBE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "4", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
_WORK = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
_GIVEN = {key for key in _WORK if key in os.environ}
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(frozen=True)
class SyncReport:
    """What a mirroring did: names of runs, the study itself among them."""

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


def sync_study(results: Path, study: str, tracking_uri: str | None = None) -> SyncReport:
    """Mirror ``results/<study>`` into MLflow.

    The address is ``tracking_uri``, else ``MLFLOW_TRACKING_URI``, else ``sqlite:///mlflow.db`` here, which is
    what ``mlflow ui`` opens. Unfinished runs are mirrored as running. Raises UserError if the study has no
    runs, a file is broken, or the address does not answer (within seconds).
    """
    folder = results / study
    folders = run_folders(folder)
    if not folders:
        raise UserError(f"{folder}: has no run with a config.yaml; train one before mirroring it.")
    runs = mirrored_runs(study, folders)
    parent = mirrored_study(study, folder, runs)
    uri = _absolute(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    outcomes: dict[str, list[str]] = {"created": [], "updated": [], "replaced": [], "unchanged": []}
    with _explained(uri), FileLock(_lock_file(uri, results)):
        client = _connect(uri)
        experiment = _experiment(client, study, local=uri.startswith(_SQLITE))
        present = _present_runs(client, experiment)
        outcome, parent_id = _mirror(client, experiment, parent, present, {})
        outcomes[outcome].append(study)
        for run in runs:
            outcome, _ = _mirror(client, experiment, run, present, {"mlflow.parentRunId": parent_id})
            outcomes[outcome].append(run.name)
    return SyncReport(study, _shown(uri, uri), **{key: tuple(names) for key, names in outcomes.items()})


def _mirror(
    client: Any, experiment: str, wanted: Mirrored, present: Sequence[Any], extra: dict[str, str]
) -> tuple[str, str]:
    """Make one MLflow run what it should be; returns what was done and the run's id."""
    digest = wanted.digest()
    found = next((run for run in present if wanted.identity.items() <= run.data.tags.items()), None)
    if found is not None and {_CONTENT: digest, **extra}.items() <= found.data.tags.items():
        return "unchanged", found.info.run_id
    outcome = "updated" if found is not None else "created"
    missing: Sequence[Point] = wanted.points
    if found is not None:
        known = _known_points(client, found)
        missing = [point for point in wanted.points if point not in known]
        changed = any(wanted.params.get(key, MISSING) != value for key, value in found.data.params.items())
        if changed or known - set(wanted.points) or _artifacts(client, found.info.run_id) - wanted.artifact_paths():
            client.delete_run(found.info.run_id)
            outcome, found, missing = "replaced", None, wanted.points
    if found is None:
        tags = {**wanted.identity, "mlflow.source.name": "tood", **extra}
        found = client.create_run(experiment, start_time=wanted.start or None, tags=tags, run_name=wanted.name)
    run_id = found.info.run_id
    _log(client, run_id, wanted, missing, set(found.data.params), extra)
    for artifact in wanted.artifacts:
        client.log_artifact(run_id, str(artifact.path), artifact.folder or None)
    if wanted.status == RUNNING:
        client.update_run(run_id, status=RUNNING)
    else:
        client.set_terminated(run_id, wanted.status, wanted.end or None)
    client.set_tag(run_id, _CONTENT, digest)
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


def _connect(uri: str) -> Any:
    """A client whose address has answered; a dead server is noticed in seconds."""
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    import logging

    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    client = MlflowClient(tracking_uri=uri)
    _be_patient(_PROBE)
    client.search_experiments(max_results=1)
    _be_patient(_WORK)
    return client


def _be_patient(settings: dict[str, str]) -> None:
    """Timeout and retries of the requests from now on, unless the user has set them."""
    for key, value in settings.items():
        if key not in _GIVEN:
            os.environ[key] = value


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
    if local and not Path(urlsplit(found.artifact_location).path).is_relative_to(Path.cwd()):
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


def _absolute(uri: str) -> str:
    """MLflow keeps one store per address in a process, so an address must not depend on the folder."""
    if not uri.startswith(_SQLITE):
        return uri
    database, _, options = uri.removeprefix(_SQLITE).partition("?")
    return f"{_SQLITE}{Path.cwd() / database}" + (f"?{options}" if options else "")


def _lock_file(uri: str, results: Path) -> Path:
    """One mirroring at a time: two that open a fresh sqlite store at once leave it unusable."""
    if uri.startswith(_SQLITE):
        database = Path(uri.removeprefix(_SQLITE).partition("?")[0])
        return database.with_name(f".{database.name}.lock")
    return results / ".sync.lock"


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Whatever MLflow, its database or the network raise becomes one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # three libraries below, each with exceptions of its own
        reason = _shown(" ".join(str(error).split()), uri)[:240] or type(error).__name__
        raise UserError(
            f"MLflow at {_shown(uri, uri)} could not be written to ({reason}); nothing is lost, for the files under "
            "results/ are the record: start that server or set MLFLOW_TRACKING_URI to another address, then run "
            "'tood sync'."
        ) from error


def _shown(text: str, uri: str) -> str:
    """The text without the password that the address may hold."""
    password = urlsplit(uri).password
    return text.replace(f":{password}@", ":***@") if password else text
