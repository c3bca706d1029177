"""What a prepared data set was made from: one that another configuration describes is not trained on."""

import hashlib
import json
from pathlib import Path

from tood.config.datasets import DatasetConfig, ShapesDataset
from tood.data.fetch.manifest import Manifest, read_manifest
from tood.data.prepared import read_entry
from tood.io.errors import UserError

_CONVERSION = 2  # to be raised when the same configuration gives another result


def manifest_of(config: DatasetConfig, params_root: Path) -> Manifest | None:
    """The manifest lies beside the data set's YAML, in ``params/datasets``."""
    if isinstance(config, ShapesDataset) or config.source is None or config.source.manifest is None:
        return None
    return read_manifest(params_root / "datasets" / config.source.manifest)


def made_from_digest(config: DatasetConfig, manifest: Manifest | None) -> str:
    """Digest of what decides the result: the configuration, the manifest and the version of this code."""
    content = [_CONVERSION, config.model_dump(mode="json"), manifest.digest if manifest else None]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def refuse_outdated(config: DatasetConfig, folder: Path, params_root: Path) -> None:
    """Raise UserError if ``folder`` holds the data set as another configuration describes it."""
    if read_entry(folder).made_from != made_from_digest(config, manifest_of(config, params_root)):
        raise UserError(
            f"{folder}: was prepared before {params_root}/datasets/{config.name}.yaml was changed, or by another "
            f"version of this program; prepare it again with: tood data prepare {config.name}"
        )
