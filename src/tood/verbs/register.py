"""``tood register``: a run's model in MLflow's model registry."""

import logging
from pathlib import Path

from tood.io.errors import UserError
from tood.mlflow_mirror.registry import refuse_names
from tood.mlflow_mirror.registry import register as register_model
from tood.mlflow_mirror.tracking import sync_study
from tood.verbs.folders import RESULTS
from tood.verbs.model_source import model_of
from tood.verbs.open_run import below_results

log = logging.getLogger(__name__)


def register(run: Path, name: str, alias: str | None, address: str | None) -> None:
    """Register the model of a trained and evaluated run, which is mirrored first; again it changes nothing.

    Raises UserError, before anything is written, for a run without a model or an evaluation, and for names that MLflow
    does not take.
    """
    refuse_names(name, alias)
    inside = below_results(run)
    model_of(run)
    if not (run / "metrics.json").is_file():
        raise UserError(f"--run {run}: is not evaluated yet; do that with: tood evaluate --run {run}")
    study = inside.parent.as_posix()
    sync_study(RESULTS, study, address, (inside.name,))
    made = register_model(RESULTS, study, inside.name, name, alias, address)
    reference = f"models:/{name}@{alias}" if alias else f"models:/{name}/{made.version}"
    log.info(
        "%s %s version %s of '%s' in %s; tood.load and mlflow models serve take it as %s",
        run,
        "is now" if made.made else "is already",
        made.version,
        name,
        made.tracking_uri,
        reference,
    )
