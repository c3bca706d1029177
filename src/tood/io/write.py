"""Atomic writing of files: temporary file, then rename, so that no file is ever half-written."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tood.io.errors import UserError
from tood.io.os_errors import refusal, write_error

_TEMPORARY = ".tood-"  # begins the names of files that are being written
_swept: set[str] = set()


@contextmanager
def atomic_path(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``target``; rename it onto ``target`` if the block succeeds.

    The content is flushed to disk before the rename, so that a power cut leaves the old file or the new one.
    ``durable=False`` skips that wait, for thousands of files that are useless without the last. Raises
    UserError if the disk or folder refuses, whatever exception the block's library raises.
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        with _locked_temporary(target) as (handle, temporary):
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(handle, 0o666 & ~umask)
            if durable:
                os.fsync(handle)
            temporary.replace(target)
    except UserError:
        raise
    except Exception as error:
        refused = error if isinstance(error, OSError) and error.errno is not None else None
        if refused is None and temporary is not None:
            refused = write_error(temporary)
        if refused is None:
            raise
        if temporary is None or refused.filename in (None, str(temporary)):
            raise UserError(refusal(target, refused)) from error
        raise UserError(
            refusal(refused.filename, refused, what="")
        ) from error  # a file from which the content was made
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def _locked_temporary(target: Path) -> Iterator[tuple[int, Path]]:
    """A new file beside ``target`` with its suffix, locked while it is being written; handle and path."""
    while True:
        handle, name = tempfile.mkstemp(prefix=_TEMPORARY, suffix=target.suffix, dir=target.parent)
        try:
            with suppress(OSError):  # if files cannot be locked here, none is removed either
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:  # else another process removed it before it was locked
                yield handle, Path(name)
                return
        finally:
            os.close(handle)


def _sweep(folder: Path) -> None:
    """Remove temporary files of killed processes from a folder, once per process; files being written are locked."""
    key = os.path.abspath(folder)
    if key in _swept:
        return
    _swept.add(key)
    for path in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):
            handle = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(handle)


def visible(paths: Iterable[Path]) -> list[Path]:
    """Paths in their order, without hidden ones such as a file that is being written."""
    return sorted(path for path in paths if not path.name.startswith("."))


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if it exists. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any, *, indent: int | None = 2) -> None:
    write_text(target, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def write_yaml(target: Path, value: Any) -> None:
    write_text(target, yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100))


def write_with(target: Path, writer: Callable[[Path], object], *, durable: bool = True) -> None:
    """Let ``writer`` (e.g. ``frame.to_csv``) fill a temporary file that then takes the target's place."""
    with atomic_path(target, durable=durable) as path:
        writer(path)
