"""Splits of a YOLO data set: folders of images, or list files as several tools write them."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tood.config.datasets import YoloDataset
from tood.data.findings import Findings
from tood.data.formats.folder_files import FolderNames, list_images, tails
from tood.data.formats.headers import IMAGE_SUFFIXES
from tood.data.formats.list_files import Line, read_lines, repeated
from tood.data.formats.splits import draw_splits
from tood.io.consulted import note_absent
from tood.io.escape import escape

_SUFFIXES = sorted(IMAGE_SUFFIXES)
_MOST_MISSING = 1000


def split_members(config: YoloDataset, root: Path, findings: Findings) -> dict[str, list[str]]:
    """Image paths relative to the root of every split, sorted."""
    if config.draw is not None and config.images is not None:
        folder = root / config.images
        if not folder.is_dir():
            findings.error(folder, f"no such folder; set 'images' of data set '{config.name}'")
            return {}
        if _key(folder, root) is None:
            findings.error(folder, f"the images are outside {root}; set 'root' to a folder that holds them")
            return {}
        keys = [_key(path, root) for path in list_images(folder)]
        return draw_splits({key: root / key for key in keys if key is not None}, config.draw, findings, folder)
    names = FolderNames()
    members = {}
    for name, places in (config.splits or {}).items():
        found = [_members_of(name, place, config, root, names, findings) for place in _several(places)]
        if any(keys is not None for keys in found):
            members[name] = sorted({key for keys in found for key in keys or ()})
    return members


def _several(places: str | list[str]) -> list[str]:
    return [places] if isinstance(places, str) else places


def _members_of(
    name: str, place: str, config: YoloDataset, root: Path, names: FolderNames, findings: Findings
) -> list[str] | None:
    """The images of one folder or list of a split; None (and an error) where there is none."""
    path = root / place
    if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root)):
        findings.error(path, f"split '{name}' is outside {root}; set 'root' to a folder that holds all splits")
        return None
    lines = _lines(path, findings, f"set 'splits.{name}' of data set '{config.name}'")
    if lines is None:
        return None
    if not lines:
        findings.error(path, f"split '{name}' has no images")
    found = _found(lines, root, path, names, findings)
    for key in repeated(found):
        findings.note(path, f"lists '{key}' more than once; used once")
    return found


def _found(lines: Sequence[Line], root: Path, list_file: Path, names: FolderNames, findings: Findings) -> list[str]:
    """The lines that name images; the search stops early in a file that is no list of images."""
    found: list[str] = []
    for count, line in enumerate(lines, start=1):
        key = _listed(line, root, list_file, names, findings)
        if key is not None:
            found.append(key)
        elif count - len(found) == _MOST_MISSING:
            findings.error(
                list_file, f"lists {_MOST_MISSING:,} files that are no images here; others are not looked for"
            )
            break
    return found


def _lines(path: Path, findings: Findings, advice: str) -> list[Line] | None:
    """What a split lists: the images of a folder, or the lines of a file; None (and an error) without either."""
    if path.is_dir():
        return [Line(number, os.path.abspath(image)) for number, image in enumerate(list_images(path), start=1)]
    if not path.exists():
        findings.error(path, f"no such folder or list file; {advice}")
        return None
    return read_lines(path, findings, advice)


def _listed(line: Line, root: Path, list_file: Path, names: FolderNames, findings: Findings) -> str | None:
    """A line of a list file as path relative to the root, or None and an error.

    It may be relative to the root or to the list, lack the suffix, or have the slashes of Windows.
    """
    written = [line.text, line.text.replace("\\", "/")]
    candidates = [names.meant(folder / name) for name in written for folder in (root, list_file.parent)]
    path = next((candidate for candidate in candidates if _is_there(candidate)), None)
    if path is None:
        path = next((file for candidate in candidates if (file := _with_suffix(candidate)) is not None), None)
    where = list_file if list_file.is_dir() else f"{list_file} line {line.number}"
    shown = escape(line.text, most=200)
    if path is None and (path := _elsewhere(written[1], root)) is not None:
        findings.note(where, f"lists '{shown}', of which there is only '{path.relative_to(root)}'; that is taken")
    if path is None:
        near = names.nearest(root / written[1])
        hint = f"; did you mean '{near}'?" if near else ""
        note_absent(root / written[1])
        findings.missing(where, f"lists '{shown}', but there is no such image in {root}{hint}")
    elif path.suffix.lower() not in IMAGE_SUFFIXES:
        findings.error(where, f"lists '{shown}', which is not an image file that is read here")
    else:
        key = _key(path, root)
        if key is None:
            findings.error(where, f"lists '{shown}', which is outside {root}")
        return key
    return None


def _key(path: Path, root: Path) -> str | None:
    """``path`` from the root on, as it is written or with links resolved; None outside."""
    written, base = Path(os.path.abspath(path)), os.path.abspath(root)
    if written.is_relative_to(base):
        return written.relative_to(base).as_posix()
    real, base = path.resolve(), os.path.realpath(root)
    return real.relative_to(base).as_posix() if real.is_relative_to(base) else None


def _is_there(path: Path) -> bool:
    """Whether there is a file, or a link to none, which is reported where it is read; not for a name too long."""
    return os.path.isfile(path) or os.path.islink(path)


def _elsewhere(written: str, root: Path) -> Path | None:
    """The image below ``root`` that a path of another machine or export means: the longest end of it that is there."""
    ends = (root / tail for tail in tails(PurePosixPath(written))[1:])
    return next((path for path in ends if path.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(path)), None)


def _with_suffix(path: Path) -> Path | None:
    """The image that a path without suffix means."""
    files = (path.with_name(f"{path.name}{suffix}") for suffix in (*_SUFFIXES, *map(str.upper, _SUFFIXES)) if path.name)
    return next((file for file in files if os.path.isfile(file)), None)
