"""Obtaining a data set's files: from a download or a mirror, verified, and put in place completely or not at all."""

import hashlib
import json
import logging
import shutil
from pathlib import Path

from tood.config.upstream import Source
from tood.data.fetch.archives import unpack
from tood.data.fetch.download import DEFAULT_PATIENCE, Patience, archive_name, download, verify_archive
from tood.data.fetch.manifest import Manifest, verify_counts
from tood.data.findings import plural
from tood.io.errors import UserError
from tood.io.os_errors import refusal

log = logging.getLogger(__name__)

STAMP = ".source"


def obtain(
    source: Source,
    target: Path,
    *,
    work: Path,
    mirror: Path | None,
    manifest: Manifest | None,
    patience: Patience = DEFAULT_PATIENCE,
) -> None:
    """Make ``target`` hold the verified files of ``source``, replacing what was there.

    With a ``mirror``, a folder of the data set's files or of its archives, nothing is downloaded. ``work``
    keeps finished archives and partial downloads between tries; it is on the same disk as ``target``.
    Raises UserError if the files cannot be had or are not those that the manifest or the counts describe.
    """
    staging = work / "unpacked"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        if mirror is None:
            _from_upstream(source, staging, work / "archives", manifest, patience)
        else:
            _from_mirror(source, mirror, staging, manifest)
        (staging / STAMP).write_text(stamp(source, manifest), encoding="utf-8")
        _replace_folder(staging, target, work / "replaced")
    except OSError as error:
        raise UserError(refusal(error.filename or work, error)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace_folder(new: Path, target: Path, old: Path) -> None:
    """Replace ``target`` by the folder ``new``; after an interruption ``target`` is complete or missing."""
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    target.parent.mkdir(parents=True, exist_ok=True)
    new.replace(target)
    shutil.rmtree(old, ignore_errors=True)


def stamp(source: Source, manifest: Manifest | None) -> str:
    """Digest of a source and its manifest, by which obtained files are recognised."""
    content = [source.model_dump(mode="json"), manifest.digest if manifest else None]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def obtained(target: Path, source: Source, manifest: Manifest | None) -> bool:
    """Whether ``target`` already holds the verified files of this source."""
    file = target / STAMP
    if not file.is_file() or file.read_text(encoding="utf-8") != stamp(source, manifest):
        return False
    try:
        verify(source, target, manifest)
    except UserError as error:
        log.info("%s Obtaining the files again.", error)
        return False
    return True


def verify(source: Source, folder: Path, manifest: Manifest | None) -> None:
    """Check files against the manifest and the counts that there are; UserError if they differ."""
    if manifest is not None:
        manifest.verify(folder)
        log.info("%s verified against %s", plural(len(manifest.entries), "file"), manifest.file.name)
    if source.counts:
        verify_counts(folder, source.counts)
        log.info("counts verified: %s", ", ".join(f"{name} {count:,}" for name, count in source.counts.items()))


def _from_upstream(
    source: Source, staging: Path, archives: Path, manifest: Manifest | None, patience: Patience
) -> None:
    files = [download(archive, archives, patience) for archive in source.archives]
    try:
        _unpack_all(source, files, staging, manifest)
        verify(source, staging, manifest)
    except UserError:
        for archive, file in zip(source.archives, files, strict=True):
            if archive.md5 is None and archive.sha256 is None:
                file.unlink()  # it may be the cause; the next run downloads it again
        raise


def _unpack_all(source: Source, files: list[Path], staging: Path, manifest: Manifest | None) -> None:
    wanted = None if manifest is None else manifest.entries.keys()
    for archive, file in zip(source.archives, files, strict=True):
        log.info("unpacking %s", file.name)
        unpack(file, staging, strip=archive.strip, wanted=wanted)


def _from_mirror(source: Source, mirror: Path, staging: Path, manifest: Manifest | None) -> None:
    if not mirror.is_dir():
        raise UserError(f"{mirror}: the mirror is not a folder; give one with the data set's files or archives.")
    files = [mirror / archive_name(archive) for archive in source.archives]
    present = [file for file in files if file.is_file()]
    if present:
        missing = [file.name for file in files if file not in present]
        if missing:
            raise UserError(f"{mirror}: the mirror has {present[0].name} but not {missing[0]}; add it.")
        for archive, file in zip(source.archives, files, strict=True):
            verify_archive(archive, file)
        _unpack_all(source, files, staging, manifest)
    else:
        if manifest is not None:
            manifest.verify(mirror)  # before copying, so that the error names the mirror's file
            names = list(manifest.entries)
        else:
            verify_counts(mirror, source.counts)
            names = list(source.counts) or [entry.name for entry in sorted(mirror.iterdir())]
        log.info("copying %s from %s", plural(len(names), "entry"), mirror)
        for name in names:
            _copy(mirror / name, staging / name)
    verify(source, staging, manifest)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
