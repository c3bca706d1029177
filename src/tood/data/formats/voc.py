"""Reader of the Pascal VOC format: one XML file per image, splits as lists of image stems."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from xml.etree.ElementTree import Element

from tood.config.datasets import VocDataset
from tood.config.messages import nearest
from tood.data.findings import Findings, plural
from tood.data.formats.class_names import refuse_unknown
from tood.data.formats.folder_files import FolderNames, composed, list_files, list_images, tails
from tood.data.formats.headers import IMAGE_SUFFIXES, Box, Frame, settle_frame
from tood.data.formats.list_files import Line, read_lines, repeated
from tood.data.formats.records import (
    BoxRecord,
    Category,
    ImageRecord,
    RawDataset,
    RawSplit,
    fit_box,
    note_fit,
    numbered,
    to_xywh,
)
from tood.data.formats.splits import draw_splits
from tood.data.formats.xml_files import read_xml
from tood.io.errors import UserError
from tood.io.text import without_path

_FLAGS = ("-1", "0", "1", "+1")  # in the class lists of the original VOC: "000012 -1"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_DIFFICULT = dict.fromkeys(("", "0", "0.0", "false", "unspecified"), False) | dict.fromkeys(("1", "1.0", "true"), True)


@dataclass(frozen=True)
class _Object:
    written: str
    name: str
    """As it is meant."""
    box: Box
    difficult: bool


@dataclass(frozen=True)
class _Picture:
    """One image with its objects, before classes and ids are known."""

    file_name: str
    frame: Frame
    objects: tuple[_Object, ...]
    document: Path


def read_voc(config: VocDataset, root: Path, findings: Findings) -> RawDataset:
    """Read a VOC data set below ``root``; what is wrong goes to ``findings``.

    Corners are used as they are: (xmin, ymin, xmax, ymax) = (x1, y1, x2, y2), without the shift by one that
    the VOC devkit's own counting from one would ask for. An image and its annotation have the same stem: the
    path below their folders without suffix. Image ids are 1..n in the order of the stems over all splits.
    Classes are ``config.classes`` or, sorted, the names that the splits' annotations use.
    """
    images, annotations = root / config.images, root / config.annotations
    for field, folder in (("images", images), ("annotations", annotations)):
        if not folder.is_dir():
            findings.error(folder, f"no such folder; set '{field}' of data set '{config.name}'")
    if findings.errors:
        return RawDataset((), ())
    files = _by_stem(images, findings)
    documents = {_stem_of(path, annotations): path for path in list_files(annotations, {".xml"})}
    members = _members(config, root, documents, findings)
    stems = sorted(set().union(*members.values()))
    pictures = {}
    names = FolderNames()
    for stem in stems:
        picture = _read_picture(
            stem, files.get(composed(stem)), documents.get(stem), images, annotations, config, names, findings
        )
        if picture is not None:
            pictures[stem] = picture
    if config.draw is not None:
        used = {images / picture.file_name for picture in pictures.values()}
        _note_unannotated([path for path in files.values() if path not in used], len(used), config, findings)
    refuse_unknown(
        config.rename, {obj.written for one in pictures.values() for obj in one.objects}, annotations, findings
    )
    classes = config.classes or sorted({obj.name for picture in pictures.values() for obj in picture.objects})
    if pictures and not classes:
        findings.error(annotations, "holds no objects to find the classes from")
    categories = numbered(classes)
    records = _Records(config, categories, images, findings)
    for number, stem in enumerate(stems, start=1):
        if stem in pictures:
            records.add(number, stem, pictures[stem])
    splits = tuple(
        RawSplit(
            name,
            images,
            [records.images[stem] for stem in split if stem in records.images],
            [box for stem in split for box in records.boxes.get(stem, [])],
        )
        for name, split in members.items()
    )
    return RawDataset(categories, splits)


def _by_stem(folder: Path, findings: Findings) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in list_images(folder):
        stem = composed(_stem_of(path, folder))
        if stem in files:
            findings.error(path, f"has the same stem as {files[stem].name}; keep one of them")
        files[stem] = path
    return files


def _note_unannotated(left_out: list[Path], used: int, config: VocDataset, findings: Findings) -> None:
    """Note images without annotation; an error where they are the most."""
    if len(left_out) > used and "missing_labels" not in config.accept:
        findings.error(
            left_out[0].parent,
            f"{plural(len(left_out), 'image')} of {len(left_out) + used:,} without annotation file; see that "
            f"'annotations' is their folder, or set 'accept: [missing_labels]' of data set '{config.name}'",
        )
        return
    for path in left_out:
        findings.note(path, "has no annotation file and is left out")


def _stem_of(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _members(config: VocDataset, root: Path, documents: Collection[str], findings: Findings) -> dict[str, list[str]]:
    """Stems of every split, sorted."""
    if config.draw is not None:
        return draw_splits(documents, config.draw, findings, root / config.annotations)
    members = {}
    by_form = {composed(stem): stem for stem in documents}
    by_name: dict[str, list[str]] = {}
    for form, stem in by_form.items():
        by_name.setdefault(PurePosixPath(form).name, []).append(stem)
    for name, list_file in (config.splits or {}).items():
        path = root / list_file
        lines = read_lines(path, findings, f"set 'splits.{name}' of data set '{config.name}'")
        if lines is None:
            continue
        named = [(line, _stem(line.text, by_form, by_name)) for line in lines]
        stems = [stem for _, stem in named if stem in documents]
        used = set(stems)
        for line, stem in named:
            if stem not in used:
                _report_missing(path, line, root / config.annotations / f"{stem}.xml", used, findings)
        for stem in repeated(stems):
            findings.note(path, f"lists '{stem}' more than once; used once")
        if not lines:
            findings.error(path, f"split '{name}' has no images")
        members[name] = sorted(used)
    return members


def _report_missing(path: Path, line: Line, wanted: Path, listed: Collection[str], findings: Findings) -> None:
    near = FolderNames().nearest(wanted) if len(findings.errors) < 50 else None
    hint = f"; did you mean '{Path(near).stem}'?" if near and Path(near).stem not in listed else ""
    findings.error(f"{path} line {line.number}", f"lists '{line.text}', but there is no {wanted}{hint}")


def _stem(line: str, documents: Mapping[str, str], by_name: Mapping[str, Sequence[str]]) -> str:
    """The stem a line names: itself, or without a class file's flag, a suffix or folders above.

    ``documents`` has the stems by their composed form, ``by_name`` those of each name in any folder: one without folder
    is enough where it is the only one.
    """
    if composed(line) in documents:
        return documents[composed(line)]
    *name, flag = line.rsplit(maxsplit=1)
    for text in (line, *name) if flag in _FLAGS else (line,):
        path = PurePosixPath(composed(text.replace("\\", "/")))
        if path.suffix.lower() in IMAGE_SUFFIXES | {".xml"}:
            path = path.with_suffix("")
        stem = next((documents[tail] for tail in tails(path) if tail in documents), None)
        alone = by_name.get(path.name, ()) if len(path.parts) == 1 else ()
        if stem is not None or len(alone) == 1:
            return stem or alone[0]
    return path.name


def _read_picture(
    stem: str,
    image: Path | None,
    document: Path | None,
    images: Path,
    annotations: Path,
    config: VocDataset,
    names: FolderNames,
    findings: Findings,
) -> _Picture | None:
    assert document is not None, f"{annotations}: {stem} is no document"
    try:
        tree = read_xml(document)
    except UserError as error:
        findings.error(document, without_path(error, document))
        return None
    if tree.tag != "annotation":
        findings.error(document, f"is not a VOC annotation; its outermost element is <{tree.tag}>, not <annotation>")
        return None
    named = (tree.findtext("filename") or "").strip()
    folder = images / PurePosixPath(stem).parent
    image = image or _named_image(named, stem, folder, names)
    if image is None:
        says = f" and <filename> says '{named}'" if named else ""
        near = names.nearest(folder / (PureWindowsPath(named).name or f"{PurePosixPath(stem).name}.jpg"))
        hint = f"; did you mean '{near}'?" if near else ""
        findings.error(document, f"the image file is missing: there is no {images / stem}.*{says}{hint}")
        return None
    frame = settle_frame(image, _annotated_size(tree), findings, str(image))
    if frame is None:
        return None
    elements = enumerate(tree.iterfind("object"), start=1)
    if len(list(tree.iter("bndbox"))) > len(tree.findall("object//bndbox")):
        findings.error(document, "has a <bndbox> in no <object> directly below <annotation>; move it into one")
    objects = [_read_object(element, number, document, config, findings) for number, element in elements]
    found = tuple(obj for obj in objects if obj is not None)
    return _Picture(image.relative_to(images).as_posix(), frame, found, document)


def _named_image(named: str, stem: str, folder: Path, names: FolderNames) -> Path | None:
    """The image called as the annotation file is (a.jpg.xml), or that ``<filename>`` names."""
    for name in (PurePosixPath(stem).name, PureWindowsPath(named).name):  # the latter splits at both kinds of slashes
        candidate = names.meant(folder / name) if name else folder
        if candidate.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(candidate):  # false for a name too long
            return candidate
    return None


def _annotated_size(tree: Element) -> tuple[int, int] | None:
    """``<size>`` where it says something; many tools leave it out or write zeros."""
    try:
        width = int(float(tree.findtext("size/width") or 0))
        height = int(float(tree.findtext("size/height") or 0))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _read_object(
    element: Element, number: int, document: Path, config: VocDataset, findings: Findings
) -> _Object | None:
    name = (element.findtext("name") or "").strip()
    if not name:
        findings.error(document, f"<object> {number} has no <name>")
        return None
    for tag in ("name", "bndbox", "difficult"):
        count = len(element.findall(tag))
        if count > 1:
            findings.error(
                document, f"<object> {number} ('{name}') has {count} <{tag}>; write an <object> for each box"
            )
            return None
    corners = []
    for corner in _CORNERS:
        text = (element.findtext(f"bndbox/{corner}") or "").strip()
        if not text:
            findings.error(document, f"<object> {number} ('{name}') has no <bndbox>/<{corner}>")
            return None
        try:
            corners.append(float(text))
        except ValueError:
            findings.error(document, f"<object> {number} ('{name}') has '{text}' for <{corner}>, which is not a number")
            return None
    given = (element.findtext("difficult") or "").strip()
    difficult = _DIFFICULT.get(given.lower())
    if difficult is None:
        findings.error(document, f"<object> {number} ('{name}') has '{given}' for <difficult>, which must be 0 or 1")
        return None
    return _Object(name, config.rename.get(name, name), (corners[0], corners[1], corners[2], corners[3]), difficult)


class _Records:
    """Images and boxes by stem, numbered as they are added."""

    def __init__(self, config: VocDataset, categories: tuple[Category, ...], images: Path, findings: Findings) -> None:
        self._difficult = config.difficult
        self._ids = {category.name: category.id for category in categories}
        self._images = images
        self._findings = findings
        self._next_box = 1
        self.images: dict[str, ImageRecord] = {}
        self.boxes: dict[str, list[BoxRecord]] = {}

    def add(self, number: int, stem: str, picture: _Picture) -> None:
        frame = picture.frame
        self.images[stem] = ImageRecord(number, picture.file_name, frame.width, frame.height, str(picture.document))
        boxes = [self._box(number, stem, obj, picture) for obj in picture.objects]
        self.boxes[stem] = [box for box in boxes if box is not None]

    def _box(self, image_id: int, stem: str, obj: _Object, picture: _Picture) -> BoxRecord | None:
        frame = picture.frame
        if obj.name not in self._ids:
            known = nearest(obj.name, self._ids).rstrip(".")
            self._findings.error(picture.document, f"class '{obj.name}' is not among 'classes'{known}")
            return None
        if obj.difficult and self._difficult == "drop":
            self._findings.box(stem, "marked difficult dropped")
            return None
        fitted = fit_box(*frame.place(obj.box), frame.width, frame.height)
        note_fit(fitted, stem, self._images / picture.file_name, self._findings)
        if fitted.box is None:
            return None
        bbox = to_xywh(fitted.box)
        crowd = obj.difficult and self._difficult == "crowd"
        record = BoxRecord(self._next_box, image_id, self._ids[obj.name], bbox, bbox[2] * bbox[3], crowd)
        self._next_box += 1
        return record
