"""Opening a model of MLflow's registry: ``models:/name@alias``, ``models:/name/1``, ``models:/name/latest``."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tood.config.messages import nearest
from tood.io.deadline import with_deadline
from tood.io.digests import file_digest
from tood.io.errors import UserError
from tood.io.escape import escape
from tood.io.read import read_yaml
from tood.mlflow_mirror.address import mask_credentials, store_address
from tood.mlflow_mirror.artifact_location import local_folder
from tood.mlflow_mirror.pyfunc_model import ARTIFACTS, DIGEST, WEIGHTS
from tood.mlflow_mirror.store import deadline_for, readable_store

_REFERENCE = re.compile(r"models:/(?P<name>[^/@:]+)(@(?P<alias>[\w-]+)|/(?P<version>\d+|latest))", re.ASCII)
_FORM = "write models:/name@alias, models:/name/1 or models:/name/latest."


def is_reference(source: str) -> bool:
    """Whether it names a model of the registry, and no file."""
    return source.startswith("models:")


@contextmanager
def registered_model(reference: str) -> Iterator[Path]:
    """The ``model.pt`` of a registered model while the block runs; with its ``thresholds.json``, if it has one.

    The registry is the one of ``MLFLOW_TRACKING_URI``, or of ``mlflow.db`` here. Raises UserError where there is no
    such model, alias or version, or it is none of tood, and TransientError where the registry does not answer.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise UserError(f"{reference}: is no model of a registry; {_FORM}")
    uri = store_address(None)
    with tempfile.TemporaryDirectory() as folder:
        with readable_store(uri) as client:
            registered = _registered(client, found["name"], reference, mask_credentials(uri, uri))
            version = _version(client, registered, found["alias"], found["version"], reference)
            location = client.get_model_version_download_uri(registered.name, version)
            weights = _weights(local_folder(location) or _downloaded(location, uri, Path(folder)), reference)
        yield weights


def _registered(client: Any, name: str, reference: str, where: str) -> Any:
    found = {one.name: one for one in client.search_registered_models(max_results=1000)}
    if name not in found:
        raise UserError(f"{reference}: MLflow at {where} has no registered model '{name}'{nearest(name, found)}")
    return client.get_registered_model(name)


def _version(client: Any, registered: Any, alias: str | None, version: str | None, reference: str) -> str:
    if alias is not None:
        if alias not in registered.aliases:
            raise UserError(
                f"{reference}: '{registered.name}' has no alias '{alias}'{nearest(alias, registered.aliases)}"
            )
        return str(registered.aliases[alias])
    search = client.search_model_versions(f"name = '{registered.name}'", order_by=["version_number DESC"])
    versions = [str(one.version) for one in search]
    wanted = versions[0] if version == "latest" and versions else str(version)
    if wanted not in versions:
        raise UserError(f"{reference}: '{registered.name}' has no version {version}{nearest(wanted, versions)}")
    return wanted


def _downloaded(location: str, uri: str, folder: Path) -> Path:
    """A copy of what is loaded of a model; each file in the time that its size allows."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    source = get_artifact_repository(location, tracking_uri=uri)
    listed = with_deadline(deadline_for(0), lambda: [*source.list_artifacts(None), *source.list_artifacts(ARTIFACTS)])
    for file in listed:
        if file.path == "MLmodel" or file.path.startswith(f"{ARTIFACTS}/"):
            path, size = file.path, file.file_size or 0
            with_deadline(deadline_for(size), lambda path=path: source.download_artifacts(path, str(folder)))  # type: ignore[misc]
    return folder


def _weights(files: Path, reference: str) -> Path:
    weights, description = files / ARTIFACTS / WEIGHTS, files / "MLmodel"
    if not description.is_file():
        raise UserError(
            f"{reference}: its files are not at {files} any more; register the run again with tood register."
        )
    content = read_yaml(description)
    metadata = content.get("metadata") if isinstance(content, dict) else None
    digest = metadata.get(DIGEST) if isinstance(metadata, dict) else None
    if digest is None or not weights.is_file():
        raise UserError(f"{reference}: is no detector of tood; load it with mlflow.pyfunc, or name another.")
    if digest != file_digest(weights):
        raise UserError(
            f"{reference}: its {WEIGHTS} is not the one that was logged ({escape(str(weights))} changed); register the "
            "run again with tood register."
        )
    return weights
