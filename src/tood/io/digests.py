"""SHA-256 digests of files, cached by size and modification time; a file is read again if either changed."""

import csv
import hashlib
import io
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tood.io.errors import UserError
from tood.io.files import read_bytes
from tood.io.write import write_with

_LARGEST = 1 << 30  # bytes of the record; a million files have 0.15 GB
_SETTLED = 2.0  # seconds after which another change of a file shows in its time


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex digits, read in pieces."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass(frozen=True)
class _CachedDigest:
    size: int
    time: int
    """Nanoseconds."""
    sha256: str


class DigestCache:
    """SHA-256 of files by name, kept in a CSV file between commands.

    A damaged or missing record costs reading the files again, nothing else.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        self._known = _read(record)
        self._changed = False

    def digest(self, path: Path, name: str | None = None) -> str:
        """The digest of ``path``, remembered as ``name`` (by default the path itself). Raises OSError."""
        key = str(path) if name is None else name
        status = os.stat(path)
        known = self._known.get(key)
        if known is not None and (known.size, known.time) == (status.st_size, status.st_mtime_ns):
            return known.sha256
        sha256 = file_digest(path)
        if time.time() - status.st_mtime > _SETTLED:
            self._known[key] = _CachedDigest(status.st_size, status.st_mtime_ns, sha256)
        else:
            self._known.pop(key, None)
        self._changed = True
        return sha256

    def save(self) -> None:
        """Write the cache, unless the disk refuses."""
        if not self._changed:
            return
        text = io.StringIO()
        rows = ((name, one.size, one.time, one.sha256) for name, one in self._known.items())
        csv.writer(text, lineterminator="\n").writerows(rows)
        with suppress(UserError):
            write_with(self._record, lambda path: path.write_bytes(text.getvalue().encode("utf-8", "surrogateescape")))
            self._changed = False


def _read(record: Path) -> dict[str, _CachedDigest]:
    try:
        rows = csv.reader(io.StringIO(read_bytes(record, _LARGEST).decode("utf-8", "surrogateescape")))
        return {name: _CachedDigest(int(size), int(time), sha256) for name, size, time, sha256 in rows}
    except (UserError, ValueError, csv.Error):
        return {}
