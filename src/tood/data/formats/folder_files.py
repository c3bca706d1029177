"""Files of a folder: lists by suffix, and the file that a name means, also in another Unicode form."""

import bisect
import os
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from tood.data.formats.headers import IMAGE_SUFFIXES
from tood.io.consulted import note_listing
from tood.io.errors import UserError
from tood.io.names import comparable, nearest_name

_NEIGHBOURS = 100  # names compared with a missing one
_SUGGESTIONS = 50  # more are not shown, and take their time


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder and below it, sorted by path; hidden files and folders are left out.

    Links are followed; a broken link is listed, so that reading it reports the problem.
    """
    return list_files(folder, IMAGE_SUFFIXES)


def list_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Like :func:`list_images`, for files with these suffixes (lower case). Raises UserError for unreadable folders."""
    note_listing(folder, tuple(sorted(suffixes)))
    return sorted(path for path in walk_files(folder) if path.suffix.lower() in suffixes)


def walk_files(folder: Path, *, hidden: bool = False) -> Iterator[Path]:
    """All files of a folder and below it, but for ``hidden`` ones, as :func:`list_images` describes.

    A folder that can be reached in several ways is walked once, and by its own name where that is below ``folder``.
    """
    for place, names in walk_folders(folder, hidden=hidden):
        for name in names:
            path = Path(place, name)
            if path.is_file() or path.is_symlink():
                yield path


def walk_folders(folder: Path, *, hidden: bool = False) -> Iterator[tuple[str, list[str]]]:
    """A folder and those below it, as :func:`walk_files` goes through them, each with the names that are no folders."""

    def refuse(error: OSError) -> None:
        if hidden and any(part.startswith(".") for part in Path(error.filename).relative_to(folder).parts):
            return  # such as the waste bin of another user
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}.") from error

    seen = set(folder.resolve().parents)
    starts = [str(folder)]
    for start in starts:
        for place, folders, names in os.walk(start, onerror=refuse):
            real = Path(place).resolve()
            if real in seen:  # a link back up, or a second way to the same folder
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if hidden or not name.startswith("."))
            starts += [link for name in folders if os.path.islink(link := os.path.join(place, name))]
            yield place, [name for name in names if hidden or not name.startswith(".")]


def composed(name: str) -> str:
    """A name in Unicode's composed form: some systems store an ö as an o and two dots."""
    return unicodedata.normalize("NFC", name)


def tails(path: PurePosixPath) -> list[str]:
    """``a/b/c``, ``b/c`` and ``c`` of a path a/b/c."""
    return [str(PurePosixPath(*path.parts[start:])) for start in range(len(path.parts))]


class FolderNames:
    """Names in folders, each of which is listed once."""

    def __init__(self) -> None:
        self._names: dict[Path, list[str]] = {}
        self._alike: dict[Path, dict[str, list[str]]] = {}
        self._suggested = 0

    def meant(self, path: Path) -> Path:
        """``path`` itself, or the one file there whose name differs in its Unicode form only."""
        if os.path.lexists(path) or path.name.isascii():
            return path
        same = [name for name in self._looking_like(path) if composed(name) == composed(path.name)]
        return path.with_name(same[0]) if len(same) == 1 else path

    def nearest(self, path: Path) -> str | None:
        """The name in the folder of a missing file that is most like its own: another case, suffix or spelling."""
        self._suggested += 1
        if self._suggested > _SUGGESTIONS:
            return None
        if same := self._looking_like(path):
            return same[0]
        names = self._listed(path.parent)
        place = bisect.bisect_left(names, path.name)
        pool = names[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS]
        other_suffix = [name for name in pool if Path(name).stem == Path(path.name).stem]
        like = nearest_name(path.name, other_suffix or pool)
        return like.name if like is not None else None

    def _listed(self, folder: Path) -> list[str]:
        if folder not in self._names:
            try:
                self._names[folder] = sorted(os.listdir(folder))
            except OSError:
                self._names[folder] = []
        return self._names[folder]

    def _looking_like(self, path: Path) -> list[str]:
        """Names in the file's folder that the eye may take for its own."""
        if path.parent not in self._alike:
            alike: dict[str, list[str]] = {}
            for name in self._listed(path.parent):
                alike.setdefault(comparable(name), []).append(name)
            self._alike[path.parent] = alike
        return self._alike[path.parent].get(comparable(path.name), [])
