"""Verification of data set files: manifests with sizes and digests, or numbers of files where there is no manifest."""

import csv
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tood.data.findings import plural
from tood.io.digests import file_digest
from tood.io.errors import UserError
from tood.io.read import read_json

_HEADER = ["path", "size", "sha256"]
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class ManifestEntry:
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a data set consists of: relative posix path to size (bytes) and digest."""

    file: Path
    entries: Mapping[str, ManifestEntry]

    @property
    def digest(self) -> str:
        return file_digest(self.file)

    def verify(self, folder: Path) -> None:
        """Check every file below ``folder``; UserError names the first that is missing or differs."""
        problems = [problem for path, entry in self.entries.items() if (problem := _problem(folder / path, entry))]
        if problems:
            more = f" (and {plural(len(problems) - 1, 'further file')})" if len(problems) > 1 else ""
            raise UserError(f"{problems[0]} than {self.file.name} says{more}; get an unchanged copy of the data.")


def read_manifest(file: Path) -> Manifest:
    """Read a CSV of path,size,sha256; UserError names file and line when it is not one."""
    entries: dict[str, ManifestEntry] = {}
    try:
        with file.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.reader(handle))
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file; correct 'source.manifest' of the data set.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: is not a CSV file ({error}).") from error
    if not rows or rows[0] != _HEADER:
        raise UserError(f"{file}: line 1 must be {','.join(_HEADER)}.")
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != 3 or not row[1].isdecimal() or not _DIGEST.fullmatch(row[2]):
            raise UserError(f"{file}: line {line} must be a path, a size in bytes and a sha256 in hex digits.")
        path = PurePosixPath(row[0])
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise UserError(f"{file}: line {line} names '{row[0]}', which is not a path below the data set.")
        entries[str(path)] = ManifestEntry(int(row[1]), row[2])
    if not entries:
        raise UserError(f"{file}: lists no files.")
    return Manifest(file, entries)


def _problem(path: Path, entry: ManifestEntry) -> str | None:
    """The beginning of a sentence that ends in "than the manifest says"."""
    if not path.is_file():
        return f"{path}: is missing, other"
    size = path.stat().st_size
    if size != entry.size:
        return f"{path}: has {size:,} bytes instead of {entry.size:,}, other"
    digest = file_digest(path)
    if digest != entry.sha256:
        return f"{path}: has another content (sha256 {digest[:12]}… instead of {entry.sha256[:12]}…)"
    return None


def verify_counts(folder: Path, counts: Mapping[str, int]) -> None:
    """Check numbers of files in folders and annotations (else images) in COCO files; UserError names what differs."""
    for name, expected in counts.items():
        path = folder / name
        if path.is_dir():
            found, noun = sum(1 for file in path.rglob("*") if file.is_file() and file.name[0] != "."), "file"
        elif path.is_file():
            content = read_json(path, without=("segmentation",))
            tables = content if isinstance(content, dict) else {}
            key = "annotations" if "annotations" in tables else "images"
            if not isinstance(tables.get(key), list):
                raise UserError(f"{path}: has no list 'annotations' to count; get an unchanged copy of the data.")
            found, noun = len(tables[key]), key.removesuffix("s")
        else:
            raise UserError(f"{path}: is missing; get a complete copy of the data.")
        if found != expected:
            raise UserError(
                f"{path}: has {plural(found, noun)} instead of {expected:,}; get an unchanged copy of the data."
            )


def digests(path: Path, algorithms: list[str]) -> dict[str, str]:
    """Several digests of one file, read once."""
    states = {name: hashlib.new(name) for name in algorithms}
    with path.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            for state in states.values():
                state.update(chunk)
    return {name: state.hexdigest() for name, state in states.items()}
