"""Reader of the YOLO format: one text file of normalised boxes per image, class names in ``data.yaml``."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tood.config.datasets import YoloDataset
from tood.data.findings import Findings
from tood.data.formats.folder_files import FolderNames
from tood.data.formats.headers import Frame, settle_frame
from tood.data.formats.list_files import read_lines, repeated
from tood.data.formats.records import BoxRecord, ImageRecord, RawDataset, RawSplit, fit_box, note_fit, numbered, to_xywh
from tood.data.formats.yolo_rows import RowMeaning, YoloRow, meaning_by_description, meaning_of_rows, parse_row
from tood.data.formats.yolo_splits import split_members
from tood.io.consulted import note_absent
from tood.io.errors import UserError, listed
from tood.io.read import read_yaml
from tood.io.text import without_path

_NAMED = 5


@dataclass(frozen=True)
class _Labelled:
    """An image with the rows of its label file; each row with the number of its line."""

    frame: Frame
    labels: Path
    rows: Sequence[tuple[int, YoloRow]]


def read_yolo(config: YoloDataset, root: Path, findings: Findings) -> RawDataset:
    """Read a YOLO data set below ``root``; what is wrong goes to ``findings``.

    The label file of ``…/images/…/a.jpg`` is ``…/labels/…/a.txt`` (the last folder called ``images`` below
    the root counts); without such a folder it lies beside the image. An image without label file has no
    objects. Outlines become the box around them; ``yolo_rows`` says how rows are told apart. Image ids are 1..n in the
    order of the paths over all splits.
    """
    described = _description(config, root, findings)
    classes = _classes(config, described, root / "data.yaml", findings)
    members = split_members(config, root, findings)
    paths = sorted(set().union(*members.values()))
    for stem in repeated(str(Path(path).with_suffix("")) for path in paths):
        findings.error(root / stem, "several images share this name and so one label file; keep one of them")
    images: dict[str, ImageRecord] = {}
    labelled: dict[str, _Labelled] = {}
    names = FolderNames()
    for number, path in enumerate(paths, start=1):
        frame = settle_frame(root / path, None, findings, str(root / path))
        if frame is None:
            continue
        labels = label_path(path, config.images, config.labels)
        labelled[path] = one = _read_labels(root, path, labels, frame, classes, names, findings)
        images[path] = ImageRecord(number, path, frame.width, frame.height, str(one.labels))
    meaning = _meaning(config, described, list(labelled.values()), root, findings)
    boxes: dict[str, list[BoxRecord]] = {path: [] for path in images}
    next_box = 1
    for path, one in labelled.items() if meaning is not None else ():
        for line, row in one.rows:
            assert meaning is not None
            box = _box(meaning, row, one, path, root, line, findings)
            if box is not None:
                boxes[path].append(
                    BoxRecord(
                        next_box, images[path].id, row.label + 1, to_xywh(box), (box[2] - box[0]) * (box[3] - box[1])
                    )
                )
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


def label_path(image: str, images: str | None = None, labels: str | None = None) -> str:
    """Label file of an image, both relative to the root; ``labels`` has those of the folder ``images``, if given."""
    path = Path(image)
    if images is not None and labels is not None and path.is_relative_to(images):
        return (Path(labels) / path.relative_to(images)).with_suffix(".txt").as_posix()
    parts = list(path.parts)
    folders = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt").as_posix()


def _read_labels(
    root: Path, image: str, file: str, frame: Frame, classes: list[str], names: FolderNames, findings: Findings
) -> _Labelled:
    written = [root / Path(file).with_suffix(suffix) for suffix in (".txt", ".TXT")]
    labels = next((path for path in map(names.meant, written) if os.path.lexists(path)), written[0])
    if not os.path.lexists(labels):  # a broken link is an error where it is read
        note_absent(labels)
        findings.note(image, f"has no label file '{file}' and counts as an image without objects")
        findings.share("missing_labels", root / image)
        return _Labelled(frame, labels, ())
    rows = []
    for number, text in read_lines(labels, findings, "restore it") or []:
        try:
            row = parse_row(text)
        except ValueError as error:
            findings.error(f"{labels} line {number}", str(error))
            continue
        if row.label >= len(classes):
            if classes:  # otherwise the missing names are the problem, reported once
                findings.error(
                    f"{labels} line {number}",
                    f"has the class index {row.label}; there are {len(classes)} classes, counted from 0",
                )
            continue
        rows.append((number, row))
    return _Labelled(frame, labels, rows)


def _box(
    meaning: RowMeaning, row: YoloRow, one: _Labelled, image: str, root: Path, line: int, findings: Findings
) -> tuple[float, float, float, float] | None:
    """The row's box (x1, y1, x2, y2) px, clipped to its image; None (and a finding) where there is none."""
    try:
        x1, y1, x2, y2 = meaning.corners(row)
    except ValueError as error:
        findings.error(f"{one.labels} line {line}", str(error))
        return None
    width, height = one.frame.width, one.frame.height
    fitted = fit_box(x1 * width, y1 * height, x2 * width, y2 * height, width, height)
    note_fit(fitted, image, root / image, findings)
    if fitted.box is not None and meaning.is_outline(row):
        findings.box(image, "given as polygon replaced by the box around it")
    return fitted.box


def _meaning(
    config: YoloDataset, described: Any, labelled: Sequence[_Labelled], root: Path, findings: Findings
) -> RowMeaning | None:
    """How rows are read; None (and an error) where that cannot be decided."""
    if config.rows is not None:
        return RowMeaning(config.rows)
    try:
        said = meaning_by_description(described)
    except ValueError as error:
        findings.error(root / "data.yaml", str(error))
        return None
    rows = [row for one in labelled for _, row in one.rows]
    try:
        meaning = said or meaning_of_rows(rows)
    except ValueError as error:
        first = next(one.labels for one in labelled if any(row.count > 5 for _, row in one.rows))
        findings.error(first, str(error))
        return None
    if meaning.kind == "pose":
        findings.note(root, f"rows of {meaning.count} numbers are read as boxes with keypoints")
    return meaning


def _description(config: YoloDataset, root: Path, findings: Findings) -> Any:
    """The content of ``data.yaml``; None if there is none, which is an error unless the classes are given."""
    path = root / "data.yaml"
    if config.classes and not path.exists():
        note_absent(path)
        return None
    try:
        return read_yaml(path, numbers_as_written=("names",)) or {}
    except UserError as error:
        remedy = "" if os.path.exists(path) else "; add it or set 'classes'"
        findings.error(path, f"{without_path(error, path)}{remedy}")
        return None


def _classes(config: YoloDataset, content: Any, path: Path, findings: Findings) -> list[str]:
    if content is None:  # reported already, or not needed
        return config.classes or []
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        by_index = {str(index): name for index, name in names.items()}
        names = [by_index.get(str(index)) for index in range(len(by_index))]
    if config.classes:
        _compare(config.classes, names, path, findings)
        return config.classes
    if isinstance(names, list) and isinstance(content["names"], dict) and None in names:
        findings.error(path, "field 'names' must have the keys 0, 1, 2, … without a gap, and a name for each")
        return []
    if not isinstance(names, list) or not names:
        findings.error(path, "field 'names' is missing or not a list; it gives the class names by index")
        return []
    for index, name in enumerate(names):
        if isinstance(name, dict):
            findings.error(path, f"field 'names' has {name!r} at index {index}; leave out the dash before it")
        elif not _is_name(name):
            findings.error(path, f"field 'names' has {name!r} at index {index}, which is not a text; put it in quotes")
    count = content.get("nc", len(names))
    if str(count) != str(len(names)):
        findings.error(path, f"field 'nc' is {count} but 'names' has {len(names)} entries")
    return [str(name) for name in names]


def _compare(classes: list[str], names: Any, path: Path, findings: Findings) -> None:
    """Note that the names given for the data set are not those of ``data.yaml``; an error where the order differs."""
    found = [str(name) for name in names] if isinstance(names, list) else classes
    if found == classes:
        return
    if sorted(found) == sorted(classes):
        findings.error(
            path,
            f"field 'names' has another order ({listed(found, _NAMED)}) than 'classes' of the data set "
            f"({listed(classes, _NAMED)}), by which every label is read; leave 'classes' out, or give the same order",
        )
    else:
        findings.note(path, f"field 'names' is not used ({listed(found, _NAMED)}), since 'classes' is set")


def _is_name(value: Any) -> bool:
    """A text or number; YAML takes a bare yes, no, on or off for true or false."""
    return isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip() != ""
