"""Whether a prepared data set is up to date with its configuration and its files, and if not, what changed."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tood.config.datasets import DatasetConfig, ShapesDataset
from tood.data.content import digest_cache, read_content
from tood.data.fetch.manifest import Manifest, read_manifest
from tood.data.prepared import DATASET_FILE, DatasetEntry, open_prepared, own_root, read_entry, root_file
from tood.io.errors import UserError
from tood.io.write import write_text

RAW = "raw"
IMAGES = "images"
_NOT_READ: dict[str, bool | set[str]] = {
    "name": True,
    "root": True,
    "source": {"origin", "license"},
    "drop_empty": True,  # training's choice among the images
    "tile": True,  # prepared data are of whole pictures
}


def manifest_of(config: DatasetConfig, params_root: Path) -> Manifest | None:
    """The manifest of a data set, which lies beside its YAML in ``params/datasets``."""
    if isinstance(config, ShapesDataset) or config.source is None or config.source.manifest is None:
        return None
    return read_manifest(params_root / "datasets" / config.source.manifest)


def made_from_digest(config: DatasetConfig, manifest: Manifest | None) -> str:
    """Digest of the configuration, as far as files are read by it, and of the manifest."""
    described = config.model_dump(mode="json", exclude_defaults=True, exclude=_NOT_READ)
    content = [described, manifest.digest if manifest else None]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def files_folder(config: DatasetConfig, folder: Path, params_root: Path) -> Path:
    """Where the files are that the data set in ``folder`` is prepared from.

    A relative ``root`` is below the project's folder, the parent of ``params_root``.
    """
    if isinstance(config, ShapesDataset):
        return folder / IMAGES
    if config.root is not None:
        return params_root.parent / Path(os.path.expanduser(config.root))
    return folder / RAW


@dataclass(frozen=True)
class DataState:
    """A prepared data set compared with its configuration, its files and the code that prepares it."""

    entry: DatasetEntry | None
    """The content of ``dataset.json``; None if it is missing or unreadable."""
    problem: str = ""
    """Why it has to be prepared again, as a sentence without its end; empty where it need not."""
    is_upgrade: bool = False
    """Whether the only reason is that an earlier version lacks records, so that its content is accepted as it is."""
    changed_code: tuple[str, ...] = ()
    """Modules that would prepare it otherwise now, where nothing else changed."""


def data_state(
    config: DatasetConfig, folder: Path, params_root: Path, code: Mapping[str, str] | None = None
) -> DataState:
    """Compare the data set in ``folder`` with ``config``, the content of its files and, if given, the code.

    Files are read again only where their size or time changed. The user's own folder may have moved: if its content
    is the same, its new path is stored.
    """
    try:
        entry = read_entry(folder)
    except UserError as error:
        return DataState(None, str(error).rstrip("."))
    described = f"{params_root}/datasets/{config.name}.yaml"
    if not entry.content:
        return DataState(entry, f"{folder / DATASET_FILE}: has no digest of its pictures yet", is_upgrade=True)
    if entry.made_from != made_from_digest(config, manifest_of(config, params_root)):
        return DataState(entry, f"{folder}: was prepared before {described} was changed")
    base = files_folder(config, folder, params_root)
    cache = digest_cache(folder)
    try:
        change = next(read_content(folder).changes(base, cache), None)
    except UserError as error:
        return DataState(entry, str(error).rstrip("."))
    cache.save()
    if change is not None:
        return DataState(entry, f"{change} since {folder} was prepared")
    try:
        _remember_root(config, folder, base)
        open_prepared(folder)
    except UserError as error:
        return DataState(entry, str(error).rstrip("."))
    if not entry.trained_on:
        return DataState(entry, f"{folder / DATASET_FILE}: has no digests of its splits yet", is_upgrade=True)
    if code is not None and entry.code != code:
        changed = sorted(name for name in entry.code.keys() | code.keys() if entry.code.get(name) != code.get(name))
        return DataState(entry, f"{folder}: was prepared by other code", changed_code=tuple(changed))
    return DataState(entry)


def _remember_root(config: DatasetConfig, folder: Path, base: Path) -> None:
    if isinstance(config, ShapesDataset) or config.root is None:
        return
    try:
        known = own_root(folder)
    except UserError:
        known = None
    if known != base:
        remember_root(folder, base)


def remember_root(folder: Path, root: Path) -> None:
    """Store the path of the user's own files of the data set in ``folder``."""
    write_text(root_file(folder), f"{root}\n")


def refuse_outdated(config: DatasetConfig, folder: Path, params_root: Path) -> None:
    """Raise UserError if ``folder`` does not hold the data set as its configuration and files are now."""
    state = data_state(config, folder, params_root)
    if state.problem and not state.is_upgrade:
        raise UserError(f"{state.problem}; prepare it again with: tood data prepare {config.name}")
