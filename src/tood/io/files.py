"""The bytes of files of unknown origin, with a limit on their size.

Every problem becomes one sentence that names the file. Only regular files are read, so that no pipe or device blocks
a command.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tood.io.consulted import note_file
from tood.io.errors import UserError

LARGEST_TEXT = 256 << 20
"""Bytes of a text file. A list of the images of COCO's train2017 has 5 MB."""
_PIECE = 1 << 20


class UnreadableError(UserError):
    """A file that cannot be read in the expected form; ``problem`` is the sentence without the remedy."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self._remedy = remedy

    @property
    def sentences(self) -> tuple[str, ...]:
        return (f"{self.problem}; {self._remedy}." if self._remedy else f"{self.problem}.",)


@contextmanager
def remedied(remedy: str) -> Iterator[None]:
    """Add ``remedy``, what to do about it, to the error of a file that is unreadable in the block; raises UserError."""
    try:
        yield
    except UnreadableError as error:
        raise UserError(f"{error.problem}; {remedy}.") from error


def read_bytes(path: Path, largest: int = LARGEST_TEXT) -> bytes:
    """The content of a regular file of at most ``largest`` bytes; UserError says why it cannot be had."""
    return b"".join(pieces(Path(path), largest))


def pieces(path: Path, largest: int) -> Iterator[bytes]:
    """Like :func:`read_bytes`, piece by piece."""
    size = 0
    note_file(path)
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise UnreadableError(f"{path}: is a pipe, a socket or a device", "give a file")
        with path.open("rb", buffering=0) as handle:
            while piece := handle.read(_PIECE):
                size += len(piece)
                if size > largest:
                    raise UnreadableError(
                        f"{path}: has more than {largest >> 20} MB, which is more than is read of such a file"
                    )
                yield piece
    except FileNotFoundError as error:
        if path.is_symlink():
            target = os.readlink(path)
            raise UnreadableError(
                f"{path}: no such file, only a link to {target}, which is not there", "mend the link"
            ) from error
        raise UnreadableError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise UnreadableError(f"{path}: cannot be read: {error.strerror}", "give a file, not a folder") from error
    except (OSError, ValueError) as error:  # ValueError for a path with a NUL
        raise UnreadableError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
