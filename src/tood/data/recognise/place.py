"""The files of a folder by kind, as names alone: what recognition looks at before it opens any."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from tood.data.findings import plural
from tood.data.formats.folder_files import composed, walk_folders
from tood.data.formats.headers import IMAGE_SUFFIXES
from tood.io.errors import UserError, listed

_MOST = 2_000_000  # files that are looked at
_NAMED = 6
_SAMPLE = 500  # names that are compared of a folder
_NO_DATA = ("__MACOSX", "node_modules")

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")
Names = Mapping[str, Sequence[str]]
"""Names of files by their folder below the root, which itself is ``.``."""


@dataclass(frozen=True)
class Place:
    """A folder that holds a data set; ``given`` is the one file of it that was named, if any."""

    root: Path
    given: Path | None = None
    _by_suffix: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    @property
    def shown(self) -> Path:
        """What the user named, for messages."""
        return self.given or self.root

    def names(self, suffixes: Collection[str]) -> dict[str, list[str]]:
        """Files with these suffixes (lower case), by folder; both in the order of their names."""
        found: dict[str, list[str]] = {}
        for suffix in suffixes:
            for folder, names in self._by_suffix.get(suffix, {}).items():
                found.setdefault(folder, []).extend(names)
        return {folder: sorted(found[folder]) for folder in sorted(found)}

    def files(self, *suffixes: str) -> list[str]:
        """Like :meth:`names`, as paths below the root."""
        return [join(folder, name) for folder, names in self.names(suffixes).items() for name in names]

    @cached_property
    def images(self) -> dict[str, list[str]]:
        return self.names(IMAGE_SUFFIXES)

    @cached_property
    def image_stems(self) -> dict[str, set[str]]:
        """Stems of the images by folder, in Unicode's composed form."""
        return {folder: {stem_of(name) for name in names} for folder, names in self.images.items()}

    def content(self) -> str:
        """How many files of which kinds there are, as ``12 pictures, 12 .xml``, and where pictures may still be."""
        counts = Counter(
            {suffix or "without suffix": sum(map(len, names.values())) for suffix, names in self._by_suffix.items()}
        )
        pictures = sum(counts.pop(suffix, 0) for suffix in IMAGE_SUFFIXES)
        others = [f"{count:,} {suffix}" for suffix, count in counts.most_common()]
        archives = self.files(*_ARCHIVES)
        packed = f"; if {archives[0]} has the pictures, unpack it first" if archives and not pictures else ""
        return (listed([plural(pictures, "picture"), *others], _NAMED) if pictures or others else "no files") + packed

    def best_match(self, stems: Iterable[str], folders: Mapping[str, Collection[str]]) -> list[str]:
        """The folders, of those given with their stems, that have the most of ``stems``; none where none has any."""
        wanted = spread(list(stems))
        shares = {folder: sum(stem in there for stem in wanted) for folder, there in folders.items()}
        most = max(shares.values(), default=0)
        return [folder for folder, share in shares.items() if share == most > 0]


def look_at(path: Path) -> Place:
    """The folder ``path``, or the one of the file ``path``, with the names of all files below, but for hidden ones.

    Raises UserError for what is neither, for an archive, and for a folder with more than two million files.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give the folder of your pictures and annotations.")
    if path.is_file() and path.suffix.lower() in _ARCHIVES:
        raise UserError(f"{path}: is an archive; unpack it and give the folder.")
    root = path if path.is_dir() else path.parent
    by_suffix: dict[str, dict[str, list[str]]] = {}
    start = len(str(root).rstrip("/")) + 1
    count = 0
    for place, names in walk_folders(root):
        folder = place[start:] or "."
        count += len(names)
        if count > _MOST:
            raise UserError(f"{root}: holds more than {_MOST:,} files; give a folder that holds the data set alone.")
        if any(part in _NO_DATA for part in folder.split("/")):
            continue
        for name in names:
            by_suffix.setdefault(os.path.splitext(name)[1].lower(), {}).setdefault(folder, []).append(name)
    return Place(root, None if path.is_dir() else path, by_suffix)


def stem_of(name: str) -> str:
    """A file's name without suffix, in Unicode's composed form."""
    return composed(os.path.splitext(name)[0])


def join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def spread(items: Sequence[str], most: int = _SAMPLE) -> list[str]:
    """At most ``most`` items, spread evenly."""
    step = max(1, -(-len(items) // most))
    return list(items[::step])


def one_pair(pairs: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """The two folders in which pairs of folders (pictures, annotations) lie in parallel; None if they do not."""
    if len(pairs) == 1:
        return pairs[0]
    tops = [common([pair[side] for pair in pairs]) for side in (0, 1)]
    parallel = all(below(images, tops[0]) == below(others, tops[1]) for images, others in pairs)
    return (tops[0], tops[1]) if parallel else None


def common(folders: Sequence[str]) -> str:
    """The deepest folder in which all lie."""
    parts = [PurePosixPath(folder).parts for folder in folders]
    shared = 0
    while all(len(one) > shared and one[shared] == parts[0][shared] for one in parts):
        shared += 1
    return str(PurePosixPath(*parts[0][:shared]))


def below(folder: str, top: str) -> str:
    return str(PurePosixPath(folder).relative_to(top))
