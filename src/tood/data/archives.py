"""Unpacking zip and tar archives without trusting their paths."""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from tood.errors import UserError


def unpack(archive: Path, target: Path, *, strip: str = "", wanted: Collection[str] | None = None) -> int:
    """Write the files of an archive below ``target`` and return their number.

    Of the archive only what lies in its folder ``strip`` is taken, relative to that folder, and with
    ``wanted`` only those paths. Raises UserError when the archive is damaged or cut short, or holds a path
    outside itself, a link or a device: nothing of such an entry is written.
    """
    root = PurePosixPath(strip).parts
    inside = 0
    written = 0
    for entry in _entries(archive):
        if entry.path.parts[: len(root)] != root:
            continue
        inside += 1
        relative = PurePosixPath(*entry.path.parts[len(root) :])
        if wanted is not None and str(relative) not in wanted:
            continue
        destination = target / relative
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _understood(archive), entry.open() as source, destination.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        written += 1
    if not inside:
        raise UserError(f"{archive}: has no files in the folder '{strip or '.'}' that 'strip' names.")
    return written


class _Entry:
    """One regular file of an archive."""

    def __init__(self, path: PurePosixPath) -> None:
        self.path = path

    def open(self) -> IO[bytes]:
        raise NotImplementedError


class _ZipEntry(_Entry):
    def __init__(self, path: PurePosixPath, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        super().__init__(path)
        self._archive, self._info = archive, info

    def open(self) -> IO[bytes]:
        return self._archive.open(self._info)


class _TarEntry(_Entry):
    def __init__(self, path: PurePosixPath, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        super().__init__(path)
        self._archive, self._info = archive, info

    def open(self) -> IO[bytes]:
        stream = self._archive.extractfile(self._info)
        assert stream is not None  # only regular files become entries
        return stream


def _entries(archive: Path) -> Iterator[_Entry]:
    if zipfile.is_zipfile(archive):
        yield from _zip_entries(archive)
    elif _is_tar(archive):
        yield from _tar_entries(archive)
    else:
        raise UserError(f"{archive}: is neither a zip nor a tar archive, or is damaged; get a fresh copy.")


def _is_tar(archive: Path) -> bool:
    try:
        return tarfile.is_tarfile(archive)
    except (OSError, EOFError, zlib.error):
        return False


def _zip_entries(archive: Path) -> Iterator[_Entry]:
    with _understood(archive), zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            mode = info.external_attr >> 16
            if stat.S_ISLNK(mode):
                raise UserError(f"{archive}: holds the link '{info.filename}'; archives with links are refused.")
            path = _safe(archive, info.filename)
            if not info.is_dir():
                yield _ZipEntry(path, opened, info)


def _tar_entries(archive: Path) -> Iterator[_Entry]:
    with _understood(archive), tarfile.open(archive) as opened:
        for info in opened:
            if info.issym() or info.islnk():
                raise UserError(f"{archive}: holds the link '{info.name}'; archives with links are refused.")
            path = _safe(archive, info.name)
            if info.isreg():
                yield _TarEntry(path, opened, info)
            elif not info.isdir():
                raise UserError(f"{archive}: holds '{info.name}', which is neither a file nor a folder.")
        while opened.fileobj is not None and opened.fileobj.read(1 << 20):
            pass  # a compressed stream's own checksum is only looked at when it is read to its end


def _safe(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or name[1:2] == ":":
        raise UserError(f"{archive}: holds the path '{name}', which leads outside; the archive is refused.")
    return path


@contextmanager
def _understood(archive: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise UserError(f"{archive}: is damaged or cut short ({error}); get a fresh copy.") from error
    except OSError as error:
        if error.errno is not None:  # the disk's fault, not the archive's
            raise
        raise UserError(f"{archive}: is damaged ({error}); get a fresh copy.") from error
    except RuntimeError as error:  # zipfile on encrypted entries
        raise UserError(f"{archive}: cannot be unpacked ({error}).") from error
