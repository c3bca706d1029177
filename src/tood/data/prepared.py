"""Prepared layout of a data set: the files that ``tood data prepare`` leaves, and how to open them.

``data/<name>/dataset.json`` is written last, so if it exists the data set is complete. Each split is one COCO json
below ``annotations/``, its content as columns beside it, and a folder of images, whose path is relative to the data
set's folder or, where the user's own files stay in place, absolute.
"""

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field

from tood.config.base import Config
from tood.config.messages import validate_written
from tood.io.digests import file_digest
from tood.io.errors import UserError
from tood.io.files import read_bytes, remedied
from tood.io.read import read_json
from tood.io.write import write_json

WATCHED = "val"
"""The split on which trainings are watched, and score thresholds are chosen for another."""
DATASET_FILE = "dataset.json"


@dataclass(frozen=True)
class DataDigests:
    """By what results name the data that they are of."""

    trained_on: str
    """Of what a training reads."""
    training: frozenset[str]
    """By which trainings name the same; those of earlier versions cover all splits, or no pictures."""
    everything: frozenset[str]
    """The same of all splits."""
    splits: Mapping[str, str]
    """Of each split."""

    def of_measurement(self, split: str) -> dict[str, str]:
        """Of the splits that an evaluation on ``split`` reads: score thresholds are chosen on the watched one."""
        return {name: self.splits[name] for name in dict.fromkeys((split, WATCHED)) if name in self.splits}


@dataclass(frozen=True)
class PreparedSplit:
    """One split: a COCO json and the folder that its ``file_name`` entries are relative to.

    ``box_count`` counts the annotations in the file, crowd regions included. ``table`` is the file as columns
    (``SplitTable``), where it has been written.
    """

    name: str
    annotations: Path
    images: Path
    image_count: int
    box_count: int
    sha256: str
    table: Path | None = None
    content: str = ""
    """Digest of classes, annotations and pictures; empty in data sets of earlier versions."""


@dataclass(frozen=True)
class PreparedDataset:
    """A complete data set: label ``i`` is ``classes[i]``, the ``i``-th category in ascending category id."""

    name: str
    format: str
    folder: Path
    classes: tuple[str, ...]
    splits: Mapping[str, PreparedSplit]
    fingerprint: str
    """Of classes, annotations and configuration, but not of the pictures; kept for results of earlier versions."""
    content: str
    """Of classes, annotations and pictures, which is all that a detector sees; empty in sets of earlier versions."""
    trained_on: str
    """The same of the splits that a training reads; empty in sets of earlier versions."""
    origin: str
    license: str
    notes: tuple[str, ...]

    @property
    def digests(self) -> DataDigests:
        return _digests_of(self)

    def split(self, name: str) -> PreparedSplit:
        """The split called ``name``; UserError lists the ones there are."""
        if name not in self.splits:
            known = ", ".join(sorted(self.splits))
            raise UserError(f"{self.folder / DATASET_FILE}: has no split '{name}'; it has {known}.")
        return self.splits[name]


class SplitEntry(Config):
    """One split as ``dataset.json`` has it."""

    annotations: str
    table: str
    images: str
    below_root: bool = Field(False, description="Whether images are below the user's own folder, the data set's root.")
    image_count: int = Field(ge=1)
    box_count: int = Field(ge=0)
    sha256: str
    table_sha256: str
    content: str = Field("", description="Digest of classes, annotations and pictures of this split.")


class DatasetEntry(Config):
    """The content of ``dataset.json``."""

    name: str
    format: str
    classes: list[str] = Field(min_length=1)
    origin: str = ""
    license: str = ""
    made_from: str = Field("", description="Digest of the configuration and manifest this was converted from.")
    fingerprint: str
    content: str = Field("", description="Digest of classes, annotations and pictures.")
    trained_on: str = Field("", description="The same of the splits that a training reads.")
    code: dict[str, str] = Field({}, description="Digests of the modules that converted it.")
    splits: dict[str, SplitEntry] = Field(min_length=1)
    notes: list[str] = Field(default_factory=list)

    @property
    def digests(self) -> DataDigests:
        return _digests_of(self)


def _digests_of(dataset: "PreparedDataset | DatasetEntry") -> DataDigests:
    trained_on = dataset.trained_on or dataset.content or dataset.fingerprint
    everything = frozenset({dataset.content, dataset.fingerprint} - {""})
    splits = {name: split.content for name, split in dataset.splits.items()}
    return DataDigests(trained_on, everything | {trained_on}, everything, splits)


def content_fingerprint(*, classes: list[str], splits: dict[str, SplitEntry], made_by: dict[str, Any]) -> str:
    """sha256 over what a detector sees: classes, annotation digests and the configuration without places."""
    content = [classes, sorted((key, split.sha256) for key, split in splits.items()), made_by]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def content_digest(
    *,
    classes: list[str],
    splits: Mapping[str, SplitEntry],
    pictures: Mapping[str, str],
    of: Collection[str] | None = None,
) -> str:
    """sha256 over all that a detector sees of the splits ``of``, by default of all.

    ``pictures`` are the digests of the files by ``<split>/<name>``.
    """
    chosen = sorted(splits if of is None else splits.keys() & set(of))
    annotations = [(name, splits[name].sha256) for name in chosen]
    files = sorted(one for one in pictures.items() if one[0].partition("/")[0] in chosen)
    return hashlib.sha256(json.dumps([classes, annotations, files]).encode()).hexdigest()


def root_file(folder: Path) -> Path:
    """The file in which this machine keeps the path of the user's own files; no part of the data set in ``folder``."""
    return folder.parent / ".roots" / f"{folder.name}.txt"


def own_root(folder: Path) -> Path:
    """The folder of the user's own files behind the data set in ``folder``; UserError where it is not known here."""
    with remedied(f"prepare the data set again with 'tood data prepare {folder.name}'"):
        return Path(read_bytes(root_file(folder)).decode("utf-8", "surrogateescape").removesuffix("\n"))


def read_entry(folder: Path) -> DatasetEntry:
    """Parse ``dataset.json`` alone; UserError if it is missing or not of this form."""
    path = Path(folder) / DATASET_FILE
    command = f"with 'tood data prepare {path.parent.name}'"
    if not os.path.lexists(path):
        raise UserError(f"{path}: no such file; prepare the data set first {command}.")
    remedy = f"remove it and prepare the data set again {command}"
    with remedied(remedy):
        content = read_json(path)
    entry: DatasetEntry = validate_written(DatasetEntry, content, str(path), remedy)
    return entry


def write_entry(folder: Path, entry: DatasetEntry) -> None:
    write_json(Path(folder) / DATASET_FILE, entry.model_dump(mode="json"))


def open_prepared(folder: Path) -> PreparedDataset:
    """Open a prepared data set and check that its files are the ones it was completed with.

    Raises UserError when ``dataset.json`` or a file it names is missing, or when an annotation file has
    changed since.
    """
    folder = Path(folder)
    entry = read_entry(folder)
    splits = {name: _open_split(folder, name, split) for name, split in entry.splits.items()}
    return PreparedDataset(
        name=entry.name,
        format=entry.format,
        folder=folder,
        classes=tuple(entry.classes),
        splits=MappingProxyType(splits),
        fingerprint=entry.fingerprint,
        content=entry.content,
        trained_on=entry.trained_on,
        origin=entry.origin,
        license=entry.license,
        notes=tuple(entry.notes),
    )


def _open_split(folder: Path, name: str, entry: SplitEntry) -> PreparedSplit:
    again = f"prepare the data set again with 'tood data prepare {folder.name}'"
    annotations, table = folder / entry.annotations, folder / entry.table
    images = (own_root(folder) if entry.below_root else folder) / entry.images
    for path, digest in ((annotations, entry.sha256), (table, entry.table_sha256)):
        if not path.is_file():
            raise UserError(f"{path}: the annotations of split '{name}' are missing; {again}.")
        if file_digest(path) != digest:
            raise UserError(f"{path}: differs from the file that {DATASET_FILE} was written for; {again}.")
    if not images.is_dir():
        raise UserError(f"{images}: the images of split '{name}' are missing; put the folder back or {again}.")
    return PreparedSplit(
        name, annotations, images, entry.image_count, entry.box_count, entry.sha256, table, entry.content
    )
