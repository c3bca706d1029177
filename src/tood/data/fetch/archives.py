"""Unpacking zip and tar archives safely: paths, links and sizes are checked, nothing that an archive says is trusted.

Files are unpacked below a folder of their own, which the caller removes when an archive is refused.
"""

import bz2
import errno
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tood.io.errors import UserError
from tood.io.escape import escape, is_unicode

MOST_EXPANSION = 200
"""Bytes that an archive may unpack to for each of its own. Pictures: 1, COCO json: up to 20, XML of VOC in a tar: 50;
what is made to fill disks: 1,000 (deflate), 7,000 (xz), millions (bzip2)."""
FREE_EXPANSION = 64 << 20
"""Bytes that any archive may unpack to, however small it is."""
ROOM_LEFT = 64 << 20
"""Bytes of the disk that unpacking leaves free."""
_LARGEST_HEADER = 1 << 20  # bytes; of a tar's long names and extended headers, which are read into memory as a whole
_LONGEST_PATH, _LONGEST_NAME = 1024, 255  # bytes in UTF-8
_CHUNK, _LOOK_EVERY = 1 << 20, 1 << 24
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others are decompressed without any bound on memory
_COMPRESSIONS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}


def unpack(archive: Path, target: Path, *, strip: str = "", wanted: Collection[str] | None = None) -> int:
    """Write the files of an archive below ``target`` and return their number.

    Of the archive only what lies in its folder ``strip`` is taken, relative to that folder, and with ``wanted`` only
    those paths. Raises UserError when the archive is damaged or cut short, holds a path outside itself, a path twice,
    a link or a device, unpacks to more than ``MOST_EXPANSION`` times its size, or to more than the disk has room for.
    """
    root = PurePosixPath(strip).parts
    inside = 0
    sink = _Sink(archive, target)
    for entry in _entries(archive, target):
        if entry.path.parts[: len(root)] != root:
            continue
        inside += 1
        relative = PurePosixPath(*entry.path.parts[len(root) :])
        if wanted is None or str(relative) in wanted:
            sink.write(relative, entry)
    if not inside:
        raise UserError(f"{archive}: has no files in the folder '{strip or '.'}' that 'strip' names.")
    return sink.written


@dataclass(frozen=True)
class _Entry:
    """One regular file of an archive; ``open`` gives its content."""

    path: PurePosixPath
    open: Callable[[], IO[bytes]]


class _Sink:
    """The folder that an archive is unpacked into."""

    def __init__(self, archive: Path, target: Path) -> None:
        self._archive, self._target = archive, target
        self._files: set[tuple[int, int]] = set()  # device and inode: what the disk takes for one file
        self._size = 0
        self.written = 0

    def write(self, relative: PurePosixPath, entry: _Entry) -> None:
        if not relative.parts:
            raise self._refusal("a file in the place of its folder")
        destination = self._target / relative
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise self._refusal(f"the path '{escape(entry.path)}' below something that is a file") from error
        self._refuse_taken(destination, entry)
        with _archive_errors(self._archive), entry.open() as source, destination.open("wb") as file:
            status = os.fstat(file.fileno())
            self._files.add((status.st_dev, status.st_ino))
            while chunk := source.read(_CHUNK):
                self._measure(len(chunk))
                file.write(chunk)
        self.written += 1

    def _refuse_taken(self, destination: Path, entry: _Entry) -> None:
        if not os.path.lexists(destination):
            return
        status = destination.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise self._refusal(f"'{escape(entry.path)}' both as a file and as a folder")
        if (status.st_dev, status.st_ino) in self._files:
            raise self._refusal(f"'{escape(entry.path)}' twice, or under names that this disk takes for the same")

    def _measure(self, size: int) -> None:
        """Check the limits before the first byte is written and from time to time after that."""
        before, self._size = self._size, self._size + size
        if before // _LOOK_EVERY != self._size // _LOOK_EVERY or not before:
            _check_expansion(self._archive, self._size)
            _check_room(self._target, size)

    def _refusal(self, what: str) -> UserError:
        return UserError(f"{self._archive}: holds {what}; the archive is refused.")


def _check_room(target: Path, needed: int) -> None:
    existing = next(folder for folder in (target, *target.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free - needed < ROOM_LEFT:
        raise UserError(f"{target}: has {free >> 20:,} MB left, which is not enough to unpack into; free some space.")


def _check_expansion(archive: Path, size: int) -> None:
    most = max(FREE_EXPANSION, MOST_EXPANSION * archive.stat().st_size)
    if size > most:
        raise UserError(
            f"{archive}: unpacks to more than {most >> 20:,} MB, {MOST_EXPANSION} times its own size, as no data set "
            "does; it is refused, so get it from elsewhere or unpack it by hand and give the folder."
        )


def _entries(archive: Path, target: Path) -> Iterator[_Entry]:
    with _archive_errors(archive):
        zipped = zipfile.is_zipfile(archive)
    if zipped:
        yield from _zip_entries(archive, target)
    else:
        yield from _tar_entries(archive)


def _zip_entries(archive: Path, target: Path) -> Iterator[_Entry]:
    """All entries in a zip's directory are checked before any of them is unpacked."""
    with _archive_errors(archive), zipfile.ZipFile(archive) as opened:
        entries = []
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind == stat.S_IFLNK:
                raise UserError(
                    f"{archive}: holds the link '{escape(info.filename)}'; archives with links are refused."
                )
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _no_file(archive, info.filename)
            path = _safe(archive, info.orig_filename)
            if info.is_dir():
                continue
            if info.compress_type not in _ZIP_METHODS:
                raise UserError(
                    f"{archive}: '{escape(path)}' is packed in an unusual way; unpack it by hand and give the folder."
                )
            entries.append(_Entry(path, lambda info=info: opened.open(info)))  # type: ignore[misc]
        size = sum(info.file_size for info in opened.infolist())
        _check_expansion(archive, size)
        _check_room(target, size)
        yield from entries


def _tar_entries(archive: Path) -> Iterator[_Entry]:
    with _archive_errors(archive), closing(_Metered(archive)) as stream:
        try:
            opened = tarfile.TarFile(fileobj=stream)  # type: ignore[arg-type]
        except tarfile.TarError as error:
            raise UserError(
                f"{archive}: is neither a zip nor a tar archive, or is damaged; get a fresh copy."
            ) from error
        for info in opened:
            if info.issym() or info.islnk():
                raise UserError(f"{archive}: holds the link '{escape(info.name)}'; archives with links are refused.")
            path = _safe(archive, info.name)
            if info.isreg():
                yield _Entry(path, lambda info=info: opened.extractfile(info))  # type: ignore[misc, arg-type]
            elif not info.isdir():
                raise _no_file(archive, info.name)
            opened.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every entry that it passed, a kilobyte each
        while stream.read(_CHUNK):
            pass  # a compressed stream's own checksum is only looked at when it is read to its end


class _Metered:
    """The decompressed bytes of a tar, limited in total and in the length of a single read.

    Without these limits tarfile would skip over any amount of data and read headers of any length into memory.
    """

    def __init__(self, archive: Path) -> None:
        with archive.open("rb") as raw:
            magic = raw.read(6)
        kind = next((kind for start, kind in _COMPRESSIONS.items() if magic.startswith(start)), None)
        self._archive = archive
        self._stream = open(archive, "rb") if kind is None else kind(archive)  # noqa: SIM115
        self._plain = kind is None

    def read(self, size: int) -> bytes:
        if size > _LARGEST_HEADER:
            raise UserError(f"{self._archive}: holds a header of {size >> 20:,} MB; the archive is refused.")
        content: bytes = self._stream.read(size)
        self._check(self._stream.tell())
        return content

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        self._check(position)
        moved: int = self._stream.seek(position, whence)
        return moved

    def tell(self) -> int:
        position: int = self._stream.tell()
        return position

    def close(self) -> None:
        self._stream.close()

    def _check(self, position: int) -> None:
        if not self._plain:
            _check_expansion(self._archive, position)


def _no_file(archive: Path, name: str) -> UserError:
    return UserError(f"{archive}: holds '{escape(name)}', which is neither a file nor a folder.")


def _safe(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or name[1:2] == ":":
        raise UserError(f"{archive}: holds the path '{escape(name)}', which leads outside; the archive is refused.")
    too_long = len(os.fsencode(name)) > _LONGEST_PATH if is_unicode(name) else True
    if too_long or any(len(part.encode()) > _LONGEST_NAME for part in path.parts) or any(map(_is_control, name)):
        raise UserError(
            f"{archive}: holds the path '{escape(name, most=100)}', which is too long or not all of it can be written; "
            "the archive is refused."
        )
    return path


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character <= "\x9f"


@contextmanager
def _archive_errors(archive: Path) -> Iterator[None]:
    """Turn any exception that zipfile or tarfile raises for a damaged or wrongly named archive into a UserError."""
    try:
        yield
    except UserError:
        raise
    except RuntimeError as error:  # zipfile on encrypted entries
        raise UserError(f"{archive}: cannot be unpacked ({escape(error, most=300)}).") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's fault, not the archive's; the exception to that is a seek to before the beginning
        reason = escape(error, most=300) or type(error).__name__
        raise UserError(f"{archive}: is damaged or cut short ({reason}); get a fresh copy.") from error
