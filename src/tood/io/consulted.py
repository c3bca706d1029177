"""Record of the files read, looked for and listed while a data set is read, so that later changes are noticed.

Readers need not report what they read: the functions that read files, list folders and look for files note it here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Consulted:
    """Consulted paths, as they were given."""

    files: set[Path] = field(default_factory=set)
    """Files whose content was read."""
    absent: set[Path] = field(default_factory=set)
    """Files that were looked for and are not there."""
    listings: set[tuple[Path, tuple[str, ...]]] = field(default_factory=set)
    """Folders whose files, also below, were listed, and the suffixes that counted."""


_consulted: ContextVar[Consulted | None] = ContextVar("consulted", default=None)


@contextmanager
def consulted() -> Iterator[Consulted]:
    """Collect what is consulted in the block."""
    found = Consulted()
    token = _consulted.set(found)
    try:
        yield found
    finally:
        _consulted.reset(token)


def note_file(path: Path) -> None:
    if (found := _consulted.get()) is not None:
        found.files.add(path)


def note_absent(path: Path) -> None:
    if (found := _consulted.get()) is not None:
        found.absent.add(path)


def note_listing(folder: Path, suffixes: tuple[str, ...]) -> None:
    if (found := _consulted.get()) is not None:
        found.listings.add((folder, suffixes))
