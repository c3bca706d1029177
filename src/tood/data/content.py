"""Content of a data set: digests of all files that were read to prepare it, so that any change is noticed and named.

``files.json`` in the prepared folder lists every file that was read (labels, lists, images; behind links too), every
file that was looked for but missing, and every folder that was listed. A file is read again only if its size or
modification time changed; its digest decides. Digests of such files are cached in ``data/.remembered``, which belongs
to this machine alone.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import Field

from tood.config.base import Config
from tood.config.messages import validate_written
from tood.data.formats.folder_files import list_files
from tood.data.formats.records import RawDataset
from tood.io.consulted import Consulted
from tood.io.digests import DigestCache
from tood.io.errors import UserError
from tood.io.read import read_json
from tood.io.write import write_json

CONTENT_FILE = "files.json"
_REMEMBERED = ".remembered"


class Listing(Config):
    """The files of a folder and below it with some suffixes, by a digest of their names."""

    folder: str
    suffixes: list[str]
    names: str = Field(description="SHA-256 over the sorted names.")


class Content(Config):
    """The files read to prepare a data set; paths below the folder of its files are relative to that folder."""

    files: dict[str, str] = Field(description="SHA-256 of each file.")
    absent: list[str] = Field([], description="Files that were looked for and were not there.")
    listings: list[Listing] = Field([])

    @property
    def digest(self) -> str:
        """SHA-256 over names and content of all files."""
        return _over(f"{path} {sha256}" for path, sha256 in sorted(self.files.items()))

    def changes(self, base: Path, cache: DigestCache) -> Iterator[str]:
        """Differences to the files below ``base``, each as the beginning of a sentence: the path and its change."""
        for path, sha256 in self.files.items():
            try:
                if cache.digest(base / path, path) != sha256:
                    yield f"{base / path}: has changed"
            except OSError:
                yield f"{base / path}: is gone"
        for path in self.absent:
            if os.path.isfile(base / path):
                yield f"{base / path}: is new"
        for listing in self.listings:
            folder = base / listing.folder
            try:
                names = _names(folder, tuple(listing.suffixes))
            except (OSError, UserError):
                yield f"{folder}: is gone"
                continue
            if _over(names) == listing.names:
                continue
            prefix = "" if listing.folder == "." else f"{listing.folder}/"
            new = next((name for name in names if f"{prefix}{name}" not in self.files), None)
            yield f"{folder}: has other files than before" if new is None else f"{folder / new}: is new"


def content_of(
    consulted: Consulted, dataset: RawDataset, unreadable: Iterable[Path], base: Path, cache: DigestCache
) -> Content:
    """The content recorded while ``dataset`` was read below ``base``, its images, and others that are ``unreadable``.

    Those are left out until they are repaired, which is to be noticed.
    """
    pictures = {split.path(image) for split in dataset.splits for image in split.images}.union(unreadable)
    return Content(
        files={name: cache.digest(base / name, name) for name in _relative(consulted.files | pictures, base)},
        absent=_relative(consulted.absent, base),
        listings=[
            Listing(
                folder=name_below(folder, base),
                suffixes=list(suffixes),
                names=_over(_names(folder, suffixes)),
            )
            for folder, suffixes in sorted(consulted.listings)
        ],
    )


def content_of_folder(base: Path, cache: DigestCache) -> Content:
    """All files of a folder, for data that is generated."""
    names = _relative((path for path in base.rglob("*") if path.is_file()), base)
    return Content(files={name: cache.digest(base / name, name) for name in names})


def read_content(folder: Path) -> Content:
    """The record in a prepared folder; UserError if it is missing or damaged."""
    path = folder / CONTENT_FILE
    found: Content = validate_written(Content, read_json(path), str(path), "prepare the data set again")
    return found


def write_content(folder: Path, content: Content) -> None:
    write_json(folder / CONTENT_FILE, content.model_dump(mode="json"), indent=0)


def digest_cache(folder: Path) -> DigestCache:
    """This machine's cached digests of the files of the data set in ``folder`` (``data/<name>``)."""
    return DigestCache(folder.parent / _REMEMBERED / f"{folder.name}.csv")


def examined_record(folder: Path) -> Path:
    """Where this machine remembers which pictures of the data set in ``folder`` were examined."""
    return folder.parent / _REMEMBERED / f"{folder.name}.pictures.json"


def _relative(paths: Iterable[Path], base: Path) -> list[str]:
    return sorted({name_below(path, base) for path in paths})


def name_below(path: Path, base: Path) -> str:
    """The name of a file in the record: from ``base`` on where the path lies below it as it is written."""
    written, root = os.path.abspath(path), os.path.abspath(base)
    return written.removeprefix(root.rstrip("/") + "/") if written != root else "."


def _names(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_files(folder, suffixes)]


def _over(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()
