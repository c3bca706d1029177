"""Reader of the YOLO format: one text file of normalised boxes per image, class names in ``data.yaml``."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tood.config.datasets import YoloDataset
from tood.data.findings import Findings
from tood.data.formats.headers import IMAGE_SUFFIXES, list_images, settle_frame
from tood.data.formats.list_files import read_lines, repeated, report_overlap
from tood.data.formats.records import BoxRecord, ImageRecord, RawDataset, RawSplit, fit_box, numbered, to_xywh
from tood.data.formats.splits import draw_splits
from tood.io.consulted import note_absent
from tood.io.errors import UserError
from tood.io.read import read_yaml

_SUFFIXES = sorted(IMAGE_SUFFIXES)
_MOST_MISSING = 1000
Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class YoloRow:
    """One line of a label file: class index and corners (x1, y1, x2, y2) as fractions of the image."""

    label: int
    corners: Corners
    polygon: bool = False


def read_yolo(config: YoloDataset, root: Path, findings: Findings) -> RawDataset:
    """Read a YOLO data set below ``root``; what is wrong goes to ``findings``.

    The label file of ``…/images/…/a.jpg`` is ``…/labels/…/a.txt`` (the last folder called ``images`` below
    the root counts); without such a folder it lies beside the image. An image without label file has no
    objects. Polygons become the box around them. Image ids are 1..n in the order of the paths over all
    splits.
    """
    classes = _classes(config, root, findings)
    members = _members(config, root, findings)
    paths = sorted(set().union(*members.values()))
    for stem in repeated(str(Path(path).with_suffix("")) for path in paths):
        findings.error(root / stem, "several images share this name and so one label file; keep one of them")
    images: dict[str, ImageRecord] = {}
    boxes: dict[str, list[BoxRecord]] = {}
    next_box = 1
    for number, path in enumerate(paths, start=1):
        frame = settle_frame(root / path, None, findings, str(root / path))
        if frame is None:
            continue
        images[path] = ImageRecord(number, path, frame.width, frame.height)
        boxes[path] = []
        for row in _read_rows(root, path, classes, findings):
            x1, y1, x2, y2 = row.corners
            fitted = fit_box(
                x1 * frame.width,
                y1 * frame.height,
                x2 * frame.width,
                y2 * frame.height,
                frame.width,
                frame.height,
            )
            if fitted.problem is not None:
                findings.box(path, fitted.problem)
            if fitted.box is not None:
                bbox = to_xywh(fitted.box)
                boxes[path].append(BoxRecord(next_box, number, row.label + 1, bbox, bbox[2] * bbox[3]))
                next_box += 1
    splits = tuple(
        RawSplit(
            name,
            root,
            [images[path] for path in split if path in images],
            [box for path in split for box in boxes.get(path, [])],
        )
        for name, split in members.items()
    )
    return RawDataset(numbered(classes), splits)


def label_path(image: str) -> str:
    """Label file of an image, both relative to the root."""
    path = Path(image)
    parts = list(path.parts)
    folders = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt").as_posix()


def parse_row(line: str) -> YoloRow:
    """Parse ``class cx cy w h`` or ``class x1 y1 x2 y2 x3 y3 …``, all normalised.

    Raises ValueError saying what is wrong.
    """
    words = line.split()
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise ValueError(f"has {line!r}, which is not a row of numbers") from error
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"has {line!r}, which is not a row of finite numbers")
    label, rest = (int(numbers[0]), numbers[1:]) if numbers else (0, [])
    if len(rest) != 4 and (len(rest) < 6 or len(rest) % 2):
        raise ValueError(f"has {len(words)} columns; a box is 'class cx cy w h', a polygon 'class x1 y1 x2 y2 x3 y3 …'")
    if label != numbers[0] or label < 0:
        raise ValueError(f"has the class index {words[0]}, which is not a whole number from 0")
    if max(map(abs, rest)) > 2.0:
        raise ValueError(
            f"has the value {max(rest, key=abs):g}; coordinates must be fractions of the image, not pixels"
        )
    if len(rest) == 4:
        cx, cy, width, height = rest
        return YoloRow(label, (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2))
    xs, ys = rest[0::2], rest[1::2]
    return YoloRow(label, (min(xs), min(ys), max(xs), max(ys)), polygon=True)


def _read_rows(root: Path, image: str, classes: list[str], findings: Findings) -> list[YoloRow]:
    labels = root / label_path(image)
    if not labels.exists():
        note_absent(labels)
        findings.note(image, f"has no label file '{label_path(image)}' and counts as an image without objects")
        return []
    rows = []
    lines = read_lines(labels, findings, "restore it")
    for number, line in enumerate(lines or [], start=1):
        try:
            row = parse_row(line)
        except ValueError as error:
            findings.error(f"{labels} row {number}", str(error))
            continue
        if row.label >= len(classes):
            if classes:  # otherwise the missing names are the problem, reported once
                last = len(classes) - 1
                findings.error(f"{labels} row {number}", f"has the class index {row.label}; the last one is {last}")
            continue
        if row.polygon:
            findings.box(image, "given as polygon replaced by the box around it")
        rows.append(row)
    return rows


def _classes(config: YoloDataset, root: Path, findings: Findings) -> list[str]:
    if config.classes:
        return config.classes
    path = root / "data.yaml"
    try:
        content = read_yaml(path)
    except UserError as error:
        findings.error(path, f"{str(error).removeprefix(f'{path}: ').rstrip('.')}; add it or set 'classes'")
        return []
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        by_index = {str(index): name for index, name in names.items()}
        names = [by_index.get(str(index)) for index in range(len(by_index))]
        if None in names:
            findings.error(path, "field 'names' must have the keys 0, 1, 2, … without a gap, and a name for each")
            return []
    if not isinstance(names, list) or not names:
        findings.error(path, "field 'names' is missing or not a list; it gives the class names by index")
        return []
    for index, name in enumerate(names):
        if not _is_name(name):
            findings.error(path, f"field 'names' has {name!r} at index {index}, which is not a text; put it in quotes")
    count = content.get("nc", len(names))
    if str(count) != str(len(names)):
        findings.error(path, f"field 'nc' is {count} but 'names' has {len(names)} entries")
    return [str(name) for name in names]


def _is_name(value: Any) -> bool:
    """A text or number; YAML takes a bare yes, no, on or off for true or false."""
    return isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip() != ""


def _members(config: YoloDataset, root: Path, findings: Findings) -> dict[str, list[str]]:
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
        return draw_splits([key for key in keys if key is not None], config.draw, findings, folder)
    members = {}
    for name, place in (config.splits or {}).items():
        path = root / place
        if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root)):
            findings.error(path, f"split '{name}' is outside {root}; set 'root' to a folder that holds all splits")
            continue
        lines = _lines(path, findings, f"set 'splits.{name}' of data set '{config.name}'")
        if lines is None:
            continue
        if not lines:
            findings.error(path, f"split '{name}' has no images")
        found = _found(lines, root, path, findings)
        for key in repeated(found):
            findings.note(path, f"lists '{key}' more than once; used once")
        members[name] = sorted(set(found))
    report_overlap(members, findings)
    return members


def _found(lines: list[str], root: Path, list_file: Path, findings: Findings) -> list[str]:
    """The lines that name images; the search stops early in a file that is no list of images."""
    found: list[str] = []
    for number, line in enumerate(lines):
        key = _listed(line, root, list_file, findings)
        if key is not None:
            found.append(key)
        elif number + 1 - len(found) == _MOST_MISSING:
            findings.error(
                list_file, f"lists {_MOST_MISSING:,} files that are no images here; others are not looked for"
            )
            break
    return found


def _lines(path: Path, findings: Findings, advice: str) -> list[str] | None:
    """What a split lists: the images of a folder, or the lines of a file; None (and an error) without either."""
    if path.is_dir():
        return [os.path.abspath(image) for image in list_images(path)]
    if not path.exists():
        findings.error(path, f"no such folder or list file; {advice}")
        return None
    return read_lines(path, findings, advice)


def _listed(line: str, root: Path, list_file: Path, findings: Findings) -> str | None:
    """A line of a list file as path relative to the root, or None and an error.

    It may be relative to the root or to the list, lack the suffix, or have the slashes of Windows.
    """
    names = [line, line.replace("\\", "/")]
    candidates = [folder / name for name in names for folder in (root, list_file.parent)]
    path = next((candidate for candidate in candidates if candidate.is_file() or candidate.is_symlink()), None)
    if path is None:
        path = next((file for candidate in candidates if (file := _with_suffix(candidate)) is not None), None)
    if path is None:
        findings.error(list_file, f"lists '{line}', but there is no such image in {root}")
    elif path.suffix.lower() not in IMAGE_SUFFIXES:
        findings.error(list_file, f"lists '{line}', which is not an image file")
    else:
        key = _key(path, root)
        if key is None:
            findings.error(list_file, f"lists '{line}', which is outside {root}")
        return key
    return None


def _key(path: Path, root: Path) -> str | None:
    """``path`` from the root on, as it is written or with links resolved; None outside."""
    written, base = Path(os.path.abspath(path)), os.path.abspath(root)
    if written.is_relative_to(base):
        return written.relative_to(base).as_posix()
    real, base = path.resolve(), os.path.realpath(root)
    return real.relative_to(base).as_posix() if real.is_relative_to(base) else None


def _with_suffix(path: Path) -> Path | None:
    """The image that a path without suffix means."""
    files = (path.with_name(f"{path.name}{suffix}") for suffix in (*_SUFFIXES, *map(str.upper, _SUFFIXES)) if path.name)
    return next((file for file in files if file.is_file()), None)
