"""Putting a run's model into MLflow's model registry, under a name and an alias."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tood.io.errors import UserError
from tood.mlflow_mirror.address import mask_credentials, store_address
from tood.mlflow_mirror.logged_models import CONTENT, REGISTERED, LoggedModels
from tood.mlflow_mirror.store import open_store

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 _.-]{0,254}[A-Za-z0-9_-])?")
_ALIAS = re.compile(r"(?!v\d+$)(?!latest$)[A-Za-z0-9_-]{1,255}")


@dataclass(frozen=True)
class Registration:
    """A version of a registered model; ``made`` says whether it is new."""

    name: str
    version: str
    alias: str | None
    made: bool
    tracking_uri: str


def refuse_names(name: str, alias: str | None) -> None:
    """Raise UserError for a name or an alias that could not be used in ``models:/name@alias``."""
    if not _NAME.fullmatch(name):
        raise UserError(f"--name '{name}': must be letters, digits, '_', '-', '.' and spaces, such as cell-detector.")
    if alias is not None and not _ALIAS.fullmatch(alias):
        raise UserError(
            f"--alias '{alias}': must be letters, digits, '_' and '-', such as champion; not 'latest', and no version "
            "such as v1."
        )


def register(
    results: Path, study: str, run: str, name: str, alias: str | None, tracking_uri: str | None = None
) -> Registration:
    """Make the mirrored model of a run a version of the registered model ``name``, unless it is one already.

    The alias is taken from the version that has it. Raises UserError where the run's model is not in MLflow, or the
    name is that of models of another kind, and TransientError where the store cannot be used now.
    """
    refuse_names(name, alias)
    uri = store_address(tracking_uri)
    with open_store(uri, results) as client:
        experiment = client.get_experiment_by_name(study)
        models = None if experiment is None else LoggedModels.of(client, experiment.experiment_id)
        model = None if models is None else models.of_run(study, run)
        if model is None:
            raise UserError(
                f"results/{study}/{run}: has no model in MLflow at {mask_credentials(uri, uri)}; mirror it with "
                f"'tood sync --study {study}', then register it."
            )
        source = _source(uri, model)
        versions = _versions(client, name)
        _refuse_foreign(client, name, versions)
        same = next((one for one in versions if one.source == source), None)
        version = same or client.create_model_version(
            name, source, model.source_run_id, tags=_own_tags(model.tags), model_id=model.model_id
        )
        client.set_logged_model_tags(model.model_id, {REGISTERED: name})
        if alias is not None:
            client.set_registered_model_alias(name, alias, str(version.version))
        return Registration(name, str(version.version), alias, same is None, mask_credentials(uri, uri))


def _source(uri: str, model: Any) -> str:
    """Where a version's files are: a server finds its own models, but MLflow looks for a database's elsewhere."""
    return str(model.artifact_location) if "sql" in uri.partition(":")[0] else f"models:/{model.model_id}"


def _versions(client: Any, name: str) -> list[Any]:
    """The versions of a registered model, which is made where it is missing; newest first."""
    if not list(client.search_registered_models(f"name = '{name}'")):
        client.create_registered_model(name, tags={"tood.kind": "detector"})
    return list(client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"]))


def _refuse_foreign(client: Any, name: str, versions: list[Any]) -> None:
    if versions and not any(_is_ours(client, version) for version in versions):
        raise UserError(
            f"--name {name}: MLflow has a registered model of that name, with {len(versions)} version(s) none of which "
            "is a detector of tood; take another name."
        )


def _is_ours(client: Any, version: Any) -> bool:
    """Whether a version was registered by tood, or in MLflow's pages from a model that tood logged."""
    if "tood.run" in version.tags:
        return True
    kind, _, model_id = (version.source or "").partition("models:/")
    if kind or not model_id.startswith("m-"):
        return False
    return CONTENT in client.get_logged_model(model_id).tags


def _own_tags(tags: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key.startswith("tood.") and key != CONTENT}
