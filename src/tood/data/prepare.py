"""From a data set's configuration to the prepared layout: obtain, verify, convert, ``dataset.json`` last."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tood.config.datasets import DatasetConfig, ShapesDataset
from tood.data.fetch.sources import obtain, obtained
from tood.data.findings import Findings
from tood.data.formats.reading import OnDisk, own_places, read_dataset
from tood.data.formats.records import Category, RawSplit, to_coco
from tood.data.made_from import made_from_digest, manifest_of
from tood.data.prepared import (
    DATASET_FILE,
    DatasetEntry,
    PreparedDataset,
    PreparedSplit,
    SplitEntry,
    content_fingerprint,
    open_prepared,
    read_entry,
    write_entry,
)
from tood.data.split_table import SplitTable
from tood.data.synthetic.shapes import generate_shapes
from tood.io.errors import UserError
from tood.io.lock import announce_wait, lock_file
from tood.io.write import atomic_path, file_digest

log = logging.getLogger(__name__)

_RAW = "raw"
_WORK = ".work"
_ANNOTATIONS = "annotations"
_IMAGES = "images"
_PIECE = 10_000  # annotations that are turned into text together


def prepare_dataset(config: DatasetConfig, folder: Path, *, mirror: Path | None, params_root: Path) -> PreparedDataset:
    """Bring a data set into the prepared layout at ``folder`` (``data/<name>``).

    Downloads and archives are kept in ``folder/.work`` until they are unpacked, so a broken run is continued
    by the next one. A finished data set is left as it is; the user's own files (``root``) are read again each
    time. A relative ``root`` is below the project's folder, the parent of ``params_root``; a ``mirror``
    replaces the download. Raises UserError naming the file that is wrong; then there is no ``dataset.json``
    unless an earlier, still valid one is there.
    """
    folder = Path(folder)
    with preparation_lock(folder):
        manifest = manifest_of(config, params_root)
        made_from = made_from_digest(config, manifest)
        own = not isinstance(config, ShapesDataset) and config.root is not None
        if not own:
            finished = _finished(folder, made_from)
            if finished is not None:
                log.info("%s: already prepared in %s", config.name, folder)
                return finished
        if isinstance(config, ShapesDataset):
            parts = _generate(config, folder)
        else:
            parts = _convert(config, folder, mirror, params_root)
        return _complete(config, folder, parts, made_from)


def locate(config: OnDisk, folder: Path, *, mirror: Path | None, params_root: Path) -> Path:
    """The folder of the data set's files: the user's ``root``, or ``folder/raw``, obtained where needed."""
    if config.root is not None:
        root = params_root.parent / Path(os.path.expanduser(config.root))
        if not os.path.isdir(root):
            raise UserError(f"{root}: no such folder; correct 'root' of data set '{config.name}'.")
        for place in (root, *(root / name for name in own_places(config))):
            _refuse_overlap(place, folder)
        return root
    assert config.source is not None
    manifest = manifest_of(config, params_root)
    raw = folder / _RAW
    if not obtained(raw, config.source, manifest):
        obtain(config.source, raw, work=folder / _WORK, mirror=mirror, manifest=manifest)
    return raw


def _refuse_overlap(own: Path, folder: Path) -> None:
    """Keep the user's files out of the folders that are written and replaced here."""
    real, target = own.resolve(), folder.resolve()
    places = [target / name for name in (_ANNOTATIONS, _IMAGES, _RAW, _WORK)]
    if real == target or any(real.is_relative_to(place) for place in places):
        raise UserError(f"{own}: prepared files are written there; move the data set's own files elsewhere.")


@dataclass(frozen=True)
class _Parts:
    """A converted data set in ``.work/annotations`` and, when generated, ``.work/images``."""

    classes: list[str]
    images: dict[str, str]  # split to the images entry of dataset.json
    notes: list[str]
    files: str | None  # digest that stands for the images, where there is one


def preparation_lock(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from preparing the same data set meanwhile."""
    waiting = announce_wait(f"{folder.name}: another process is preparing it; waiting")
    return lock_file(folder.parent / f".{folder.name}.lock", folder, waiting)


def _finished(folder: Path, made_from: str) -> PreparedDataset | None:
    """The data set, if it is complete, made from the same and none of its images is missing."""
    try:
        if not (folder / DATASET_FILE).is_file() or read_entry(folder).made_from != made_from:
            return None
        dataset = open_prepared(folder)
        for split in dataset.splits.values():
            _find_images(split)
    except UserError as error:
        log.info("%s Preparing it again.", error)
        return None
    return dataset


def _find_images(split: PreparedSplit) -> None:
    for name in SplitTable.of_split(split).file_names.tolist():
        if not (split.images / name).is_file():
            raise UserError(f"{split.images / name}: is missing.")


def _generate(config: ShapesDataset, folder: Path) -> _Parts:
    work = folder / _WORK
    shutil.rmtree(work, ignore_errors=True)
    classes = generate_shapes(config, work)
    return _Parts(list(classes), dict.fromkeys(config.splits, _IMAGES), [], _files_digest(work / _IMAGES))


def _files_digest(folder: Path) -> str:
    """One digest over the names and contents of all files of a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(folder).as_posix()} {file_digest(file)}\n".encode())
    return digest.hexdigest()


def _convert(config: OnDisk, folder: Path, mirror: Path | None, params_root: Path) -> _Parts:
    root = locate(config, folder, mirror=mirror, params_root=params_root)
    shutil.rmtree(folder / _WORK, ignore_errors=True)
    log.info("%s: reading %s", config.name, root)
    findings = Findings()
    dataset = read_dataset(config, root, findings)
    findings.raise_errors(config.name)
    with _all_or_nothing(folder / _WORK):
        for split in dataset.splits:
            write_coco(folder / _WORK / _ANNOTATIONS / f"{split.name}.json", split, dataset.categories)
    images = {split.name: _images_entry(split.folder, folder) for split in dataset.splits}
    manifest = manifest_of(config, params_root)
    return _Parts(dataset.classes, images, findings.sentences("note"), manifest.digest if manifest else None)


def write_coco(path: Path, split: RawSplit, categories: Sequence[Category]) -> None:
    """The text of ``to_coco`` as JSON, made in pieces: whole it would take several times the memory of the boxes."""
    frame = to_coco(replace(split, boxes=()), categories)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f'{{"images": {_json(frame["images"])}, "annotations": [')
        for start in range(0, len(split.boxes), _PIECE):
            piece = replace(split, images=(), boxes=split.boxes[start : start + _PIECE])
            file.write((", " if start else "") + _json(to_coco(piece, ())["annotations"])[1:-1])
        file.write(f'], "categories": {_json(frame["categories"])}}}\n')


def _json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, ensure_ascii=False, allow_nan=False)


@contextmanager
def _all_or_nothing(work: Path) -> Iterator[None]:
    """Remove what was made so far where the disk refuses more."""
    try:
        yield
    except UserError:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _images_entry(images: Path, folder: Path) -> str:
    """Relative to the data set's folder, or absolute where the user's own files stay in place."""
    absolute, base = Path(os.path.abspath(images)), os.path.abspath(folder / _RAW)
    if absolute.is_relative_to(base):
        return (Path(_RAW) / absolute.relative_to(base)).as_posix()
    return str(absolute)


def _complete(config: DatasetConfig, folder: Path, parts: _Parts, made_from: str) -> PreparedDataset:
    """Move what was made into place and write ``dataset.json``, unless all of it is there already."""
    work = folder / _WORK
    with _all_or_nothing(work):
        splits = {name: _split_entry(work, name, images) for name, images in parts.images.items()}
    source = None if isinstance(config, ShapesDataset) else config.source
    made_by = config.model_dump(mode="json", exclude={"root", "source", "name"}) | {"files": parts.files}
    entry = DatasetEntry(
        name=config.name,
        format=config.format,
        classes=parts.classes,
        origin=source.origin if source else "",
        license=source.license if source else "",
        made_from=made_from,
        fingerprint=content_fingerprint(classes=parts.classes, splits=splits, made_by=made_by),
        splits=splits,
        notes=parts.notes,
    )
    if not _is_there(folder, entry):
        (folder / DATASET_FILE).unlink(missing_ok=True)
        for name in (_ANNOTATIONS, _IMAGES):
            if (work / name).exists():
                shutil.rmtree(folder / name, ignore_errors=True)
                (work / name).replace(folder / name)
        write_entry(folder, entry)
    shutil.rmtree(work, ignore_errors=True)
    return open_prepared(folder)


def _split_entry(work: Path, name: str, images: str) -> SplitEntry:
    annotations, flat = f"{_ANNOTATIONS}/{name}.json", f"{_ANNOTATIONS}/{name}.npz"
    table = SplitTable.of_json(work / annotations)
    table.write_flat(work / flat)
    return SplitEntry(
        annotations=annotations,
        table=flat,
        images=images,
        image_count=len(table.image_ids),
        box_count=len(table.annotations),
        sha256=file_digest(work / annotations),
        table_sha256=file_digest(work / flat),
    )


def _is_there(folder: Path, entry: DatasetEntry) -> bool:
    try:
        if not (folder / DATASET_FILE).is_file() or read_entry(folder) != entry:
            return False
        open_prepared(folder)
    except UserError:
        return False
    return True
