"""Preparation of a data set: obtain, verify and convert its files into the prepared layout, ``dataset.json`` last."""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tood.config.datasets import TRAINING_SPLITS, DatasetConfig, ImagesDataset, ShapesDataset
from tood.data.content import (
    CONTENT_FILE,
    Content,
    content_of,
    content_of_folder,
    digest_cache,
    examined_record,
    name_below,
    read_content,
    write_content,
)
from tood.data.duplicates import duplicate_rule, settle_duplicates
from tood.data.fetch.sources import obtain, obtained
from tood.data.findings import findings_of
from tood.data.formats.reading import OnDisk, own_places, read_dataset
from tood.data.formats.records import Category, RawSplit, to_coco
from tood.data.made_from import (
    IMAGES,
    RAW,
    data_state,
    files_folder,
    made_from_digest,
    manifest_of,
    remember_root,
)
from tood.data.pictures import ExaminedPictures, pictures_of
from tood.data.prepared import (
    DATASET_FILE,
    DatasetEntry,
    PreparedDataset,
    SplitEntry,
    content_digest,
    content_fingerprint,
    open_prepared,
    read_entry,
    write_entry,
)
from tood.data.split_table import SplitTable
from tood.data.synthetic.shapes_files import generate_shapes
from tood.data.unreadable import settle_unreadable
from tood.data.unused import name_unused
from tood.io.consulted import consulted
from tood.io.digests import file_digest
from tood.io.errors import UserError
from tood.io.lock import announce_wait, lock_file
from tood.io.write import atomic_path, remove

log = logging.getLogger(__name__)

_WORK = ".work"
_ANNOTATIONS = "annotations"
_PIECE = 10_000  # annotations that are turned into text together
_NO_CONTENT = {"root", "source", "name", "drop_empty", "tile"}
_LATER = {"duplicates", "rename", "accept", "rows", "unreadable", "missing", "leave_out", "without_folders", "labels"}
_LATER_OF_DRAW = {"out_of", "together"}
"""Fields that came after results were recorded: at their defaults they are no part of the fingerprint."""


def prepare_dataset(
    config: DatasetConfig,
    folder: Path,
    *,
    mirror: Path | None,
    params_root: Path,
    code: Mapping[str, str] | None = None,
) -> PreparedDataset:
    """Bring a data set into the prepared layout at ``folder`` (``data/<name>``).

    Downloads and archives are kept in ``folder/.work`` until they are unpacked, so an interrupted run is continued
    by the next one. A data set whose configuration, files and ``code`` (digests of the modules that prepare) have not
    changed is left as it is. A relative ``root`` is below the project's folder, the parent of
    ``params_root``; a ``mirror`` replaces the download. Raises UserError naming the file that is wrong; then there is
    no ``dataset.json`` unless an earlier, still valid one is there.
    """
    folder = Path(folder)
    with preparation_lock(folder):
        state = data_state(config, folder, params_root, code)
        if not state.problem:
            log.info("%s: already prepared in %s", config.name, folder)
            return open_prepared(folder)
        if state.entry is not None:
            log.info("%s; preparing it again", state.problem)
        made_from = made_from_digest(config, manifest_of(config, params_root))
        if isinstance(config, ShapesDataset):
            parts = _generate(config, folder)
        else:
            parts = _convert(config, folder, mirror, params_root)
        return _complete(config, folder, parts, made_from, code or {})


def locate(config: OnDisk, folder: Path, *, mirror: Path | None, params_root: Path) -> Path:
    """The folder of the data set's files: the user's ``root``, or ``folder/raw``, obtained where needed."""
    root = files_folder(config, folder, params_root)
    if config.root is not None:
        if not os.path.isdir(root):
            raise UserError(f"{root}: no such folder; correct 'root' of data set '{config.name}'.")
        for place in (root, *(root / name for name in own_places(config))):
            _refuse_overlap(place, folder)
        return root
    assert config.source is not None
    manifest = manifest_of(config, params_root)
    if not obtained(root, config.source, manifest):
        obtain(config.source, root, work=folder / _WORK, mirror=mirror, manifest=manifest)
    return root


def _refuse_overlap(own: Path, folder: Path) -> None:
    """Keep the user's files out of the folders that are written and replaced here."""
    real, target = own.resolve(), folder.resolve()
    places = [target / name for name in (_ANNOTATIONS, IMAGES, RAW, _WORK)]
    if real == target or any(real.is_relative_to(place) for place in places):
        raise UserError(f"{own}: prepared files are written there; move the data set's own files elsewhere.")


@dataclass(frozen=True)
class _Parts:
    """A converted data set in ``.work/annotations`` and, when generated, ``.work/images``."""

    classes: list[str]
    images: dict[str, str]
    """The images entry of each split in dataset.json."""
    notes: list[str]
    files: str | None
    """A digest that stands for the images in the fingerprint, where there is one."""
    content: Content
    pictures: dict[str, str]
    """Digest of each picture by its split and name."""
    root: Path | None = None
    """The user's own folder."""


def preparation_lock(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from preparing the same data set meanwhile."""
    waiting = announce_wait(f"{folder.name}: another process is preparing it; waiting")
    return lock_file(folder.parent / f".{folder.name}.lock", folder, waiting)


def _generate(config: ShapesDataset, folder: Path) -> _Parts:
    work = folder / _WORK
    shutil.rmtree(work, ignore_errors=True)
    classes = generate_shapes(config, work)
    cache = digest_cache(folder)
    content = content_of_folder(work / IMAGES, cache)
    images = dict.fromkeys(config.splits, IMAGES)
    return _Parts(list(classes), images, [], content.digest, content, content.files)


def _convert(config: OnDisk, folder: Path, mirror: Path | None, params_root: Path) -> _Parts:
    root = locate(config, folder, mirror=mirror, params_root=params_root)
    shutil.rmtree(folder / _WORK, ignore_errors=True)
    log.info("%s: reading %s", config.name, root)
    findings = findings_of(config)
    with consulted() as asked:
        dataset = read_dataset(config, root, findings)
    name_unused(dataset, asked.files, config, root, findings)
    findings.raise_errors(config.name, unreadable_alone=False)  # of those there may be more
    cache = digest_cache(folder)
    try:
        content = content_of(asked, dataset, findings.unreadable_pictures, root, cache)
    finally:
        cache.save()
    digests = {path: content.files[name_below(path, root)] for path in pictures_of(dataset)}
    if config.root is not None or findings.drops_unreadable:  # else files with an upstream are verified by its digests
        ExaminedPictures(examined_record(folder)).examine(digests, findings)
    dataset = settle_unreadable(dataset, config, root, findings)
    dataset = settle_duplicates(dataset, duplicate_rule(config), digests.__getitem__, config.name, findings)
    findings.raise_errors(config.name)
    pictures = {
        f"{split.name}/{image.file_name}": digests[split.path(image)]
        for split in dataset.splits
        for image in split.images
    }
    with _all_or_nothing(folder / _WORK):
        for split in dataset.splits:
            write_coco(folder / _WORK / _ANNOTATIONS / f"{split.name}.json", split, dataset.categories)
    images = {split.name: _images_entry(split.folder, folder, config, root) for split in dataset.splits}
    manifest = manifest_of(config, params_root)
    notes = findings.sentences("note")
    files = manifest.digest if manifest else None
    own = root if config.root is not None else None
    return _Parts(dataset.classes, images, notes, files, content, pictures, own)


def write_coco(path: Path, split: RawSplit, categories: Sequence[Category]) -> None:
    """Write ``to_coco`` as JSON in pieces, since the whole text would take several times the memory of the boxes."""
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


def _images_entry(images: Path, folder: Path, config: OnDisk, root: Path) -> str:
    """The path of the images, relative to the data set's folder or, where files stay in place, to the user's own."""
    inside = Path(os.path.relpath(images, root))
    return inside.as_posix() if config.root is not None else (Path(RAW) / inside).as_posix()


def _complete(
    config: DatasetConfig, folder: Path, parts: _Parts, made_from: str, code: Mapping[str, str]
) -> PreparedDataset:
    """Move the converted files into place and write ``dataset.json``, unless all of it is there already."""
    work = folder / _WORK
    with _all_or_nothing(work):
        splits = {name: _split_entry(work, name, images, parts.root) for name, images in parts.images.items()}
        digest = partial(content_digest, classes=parts.classes, splits=splits, pictures=parts.pictures)
        splits = {name: split.model_copy(update={"content": digest(of=[name])}) for name, split in splits.items()}
        write_content(work, parts.content)
    source = None if isinstance(config, ShapesDataset) else config.source
    made_by = config.model_dump(mode="json", exclude=_no_content(config)) | {"files": parts.files}
    entry = DatasetEntry(
        name=config.name,
        format=config.format,
        classes=parts.classes,
        origin=source.origin if source else "",
        license=source.license if source else "",
        made_from=made_from,
        fingerprint=content_fingerprint(classes=parts.classes, splits=splits, made_by=made_by),
        content=digest(),
        trained_on=digest(of=TRAINING_SPLITS),
        code=dict(code),
        splits=splits,
        notes=parts.notes,
    )
    if parts.root is not None:
        remember_root(folder, parts.root)
    if not _is_there(folder, entry) or (work / IMAGES).exists():  # what was drawn again replaces what changed
        (folder / DATASET_FILE).unlink(missing_ok=True)
        for name in (_ANNOTATIONS, IMAGES, CONTENT_FILE):
            if (work / name).exists():
                remove(folder / name)
                (work / name).replace(folder / name)
        write_entry(folder, entry)
    elif parts.content != _kept_content(folder):
        write_content(folder, parts.content)
    shutil.rmtree(work, ignore_errors=True)
    return open_prepared(folder)


def _no_content(config: DatasetConfig) -> dict[str, bool | set[str]]:
    """Fields that are no part of the fingerprint, with the later ones that are at their defaults."""
    draw = None if isinstance(config, ShapesDataset | ImagesDataset) else config.draw
    left_out: dict[str, bool | set[str]] = dict.fromkeys(_NO_CONTENT | _defaults(config, _LATER), True)
    return left_out if draw is None else {**left_out, "draw": _defaults(draw, _LATER_OF_DRAW)}


def _defaults(config: BaseModel, names: set[str]) -> set[str]:
    """Those of the fields that are at their defaults."""
    fields = type(config).model_fields
    return {name for name in names & fields.keys() if getattr(config, name) == fields[name].default}


def _split_entry(work: Path, name: str, images: str, root: Path | None) -> SplitEntry:
    annotations, flat = f"{_ANNOTATIONS}/{name}.json", f"{_ANNOTATIONS}/{name}.npz"
    table = SplitTable.of_json(work / annotations)
    table.write_flat(work / flat)
    return SplitEntry(
        annotations=annotations,
        table=flat,
        images=images,
        below_root=root is not None,
        image_count=len(table.image_ids),
        box_count=len(table.annotations),
        sha256=file_digest(work / annotations),
        table_sha256=file_digest(work / flat),
    )


def _kept_content(folder: Path) -> Content | None:
    try:
        return read_content(folder)
    except UserError:
        return None


def _is_there(folder: Path, entry: DatasetEntry) -> bool:
    try:
        if read_entry(folder) != entry:
            return False
        open_prepared(folder)
    except UserError:
        return False
    return True
