"""The pictures and videos that ``tood predict`` is given: files, folders and patterns."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tood.data.formats.folder_files import list_files
from tood.data.formats.headers import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES
from tood.data.video import VIDEO_SUFFIXES
from tood.io.errors import UserError

_PICTURES = IMAGE_SUFFIXES | OTHER_IMAGE_SUFFIXES  # the others are refused by name


@dataclass(frozen=True)
class Inputs:
    """What is looked at, and where what is drawn of it goes."""

    root: Path
    """The folder that names are relative to."""
    pictures: dict[Path, Path]
    videos: dict[Path, Path]

    def name(self, path: Path) -> Path:
        return path.relative_to(self.root)


def inputs_of(given: Sequence[Path], out: Path) -> Inputs:
    """All pictures and videos of ``given``: files, folders, or patterns as ``'photos/**/*.jpg'``, each once.

    What lies below ``out`` is left out of folders and patterns. Raises UserError where there is nothing, or where one
    of the files would be overwritten by what is drawn.
    """
    if len(given) == 1 and not _is_pattern(given[0]):
        root, paths = (given[0] if given[0].is_dir() else given[0].parent), _expanded(given[0], out)
    else:
        absolute = [Path(os.path.abspath(path)) for path in given]  # '..' in a name would lead out of --out
        paths = list(dict.fromkeys(path for argument in absolute for path in _expanded(argument, out)))
        folders = [path if path.is_dir() else path.parent for path in absolute if not _is_pattern(path)]
        root = Path(os.path.commonpath(folders + [path.parent for path in paths]))
    targets = _targets(paths, root, out)
    return Inputs(
        root,
        {path: target for path, target in targets.items() if not _is_video(path)},
        {path: target for path, target in targets.items() if _is_video(path)},
    )


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path)) and not os.path.lexists(path)


def _expanded(given: Path, out: Path) -> list[Path]:
    if given.is_dir():
        if out.resolve() == given.resolve():
            raise UserError(f"--out {out}: is the folder of the images; give another one for the pictures.")
        found = _outside(list_files(given, _PICTURES | VIDEO_SUFFIXES), out)
        if not found:
            raise UserError(f"{given}: holds no images; give an image or a folder with JPEG or PNG files, or videos.")
        return found
    if _is_pattern(given):
        matches = (Path(name) for name in glob.glob(str(given), recursive=True))
        kept = [path for path in matches if path.suffix.lower() in _PICTURES | VIDEO_SUFFIXES]
        found = _outside(sorted(kept), out)
        if not found:
            raise UserError(f"{given}: matches no image or video.")
        return found
    if not given.exists():
        raise UserError(f"{given}: no such image, video or folder.")
    return [given]


def _outside(paths: list[Path], out: Path) -> list[Path]:
    return [path for path in paths if not path.resolve().is_relative_to(out.resolve())]


def _targets(paths: list[Path], root: Path, out: Path) -> dict[Path, Path]:
    """Where the picture or video of each goes; those that differ in their suffix only keep it in its name."""
    names = {path: path.relative_to(root) for path in paths}
    shared = Counter(name.with_suffix("") for name in names.values())
    originals = {path.resolve() for path in paths}
    targets = {}
    for path, name in names.items():
        suffix = ".mp4" if _is_video(path) else ".png"
        alone = shared[name.with_suffix("")] == 1
        targets[path] = out / (name.with_suffix(suffix) if alone else name.with_name(f"{name.name}{suffix}"))
        if targets[path].resolve() in originals:
            raise UserError(f"--out {out}: the picture of {path} would overwrite an image there; give another folder.")
    return targets
