"""Reader of the Pascal VOC format: one XML file per image, splits as lists of image stems."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from xml.etree.ElementTree import Element

from tood.config.datasets import VocDataset
from tood.config.messages import nearest
from tood.data.findings import Findings, plural
from tood.data.formats.class_names import refuse_unknown
from tood.data.formats.folder_files import FolderNames
from tood.data.formats.headers import IMAGE_SUFFIXES, Box, Frame, settle_frame
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
from tood.data.formats.voc_splits import VocPlace, VocSplitMembers, split_members
from tood.data.formats.xml_files import read_xml
from tood.io.errors import UserError
from tood.io.text import without_path

_Key = tuple[int, str]  # the identity of a place, and the stem there
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
    members = split_members(config, root, findings)
    if not members and findings.errors:
        return RawDataset((), ())
    pictures: dict[_Key, _Picture] = {}
    names = FolderNames()
    keys = _in_order(members)
    for place, stem in keys.values():
        picture = _read_picture(stem, place, config, names, findings)
        if picture is not None:
            pictures[id(place), stem] = picture
    if config.splits is None and members:
        pool = members[0].place
        used = {pool.images / picture.file_name for picture in pictures.values()}
        _note_unannotated([path for path in pool.files.values() if path not in used], len(used), config, findings)
    written = {obj.written for one in pictures.values() for obj in one.objects}
    annotations = members[0].place.annotations if members else root
    refuse_unknown(config.rename, written, annotations, findings)
    classes = config.classes or sorted({obj.name for picture in pictures.values() for obj in picture.objects})
    if pictures and not classes:
        findings.error(annotations, "holds no objects to find the classes from")
    categories = numbered(classes)
    records = _Records(config, categories, findings)
    for number, (key, (place, stem)) in enumerate(keys.items(), start=1):
        if key in pictures:
            records.add(number, key, place, stem, pictures[key])
    splits = tuple(
        RawSplit(
            split.name,
            split.place.images,
            [records.images[key] for key in split_keys if key in records.images],
            [box for key in split_keys for box in records.boxes.get(key, [])],
        )
        for split in members
        for split_keys in [[(id(split.place), stem) for stem in split.stems]]
    )
    return RawDataset(categories, splits)


def _in_order(members: Sequence[VocSplitMembers]) -> dict[_Key, tuple[VocPlace, str]]:
    """Every image of the splits once: by place, and there by stem."""
    stems: dict[int, set[str]] = {}
    places: dict[int, VocPlace] = {}
    for split in members:
        places[id(split.place)] = split.place
        stems.setdefault(id(split.place), set()).update(split.stems)
    return {(key, stem): (place, stem) for key, place in places.items() for stem in sorted(stems[key])}


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


def _read_picture(
    stem: str, place: VocPlace, config: VocDataset, names: FolderNames, findings: Findings
) -> _Picture | None:
    document, images = place.documents[stem], place.images
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
    image = place.image(stem) or _named_image(named, stem, folder, names)
    if image is None:
        says = f" and <filename> says '{named}'" if named else ""
        near = names.nearest(folder / (PureWindowsPath(named).name or f"{PurePosixPath(stem).name}.jpg"))
        taken = near is not None and str(PurePosixPath(stem).with_name(PurePosixPath(near).stem)) in place.documents
        hint = f"; did you mean '{near}'?" if near and not taken else ""
        findings.missing(document, f"the image file is missing: there is no {images / stem}.*{says}{hint}")
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
    """Images and boxes by place and stem, numbered as they are added."""

    def __init__(self, config: VocDataset, categories: tuple[Category, ...], findings: Findings) -> None:
        self._difficult = config.difficult
        self._ids = {category.name: category.id for category in categories}
        self._findings = findings
        self._next_box = 1
        self.images: dict[_Key, ImageRecord] = {}
        self.boxes: dict[_Key, list[BoxRecord]] = {}

    def add(self, number: int, key: _Key, place: VocPlace, stem: str, picture: _Picture) -> None:
        frame = picture.frame
        self.images[key] = ImageRecord(number, picture.file_name, frame.width, frame.height, str(picture.document))
        boxes = [self._box(number, place, stem, obj, picture) for obj in picture.objects]
        self.boxes[key] = [box for box in boxes if box is not None]

    def _box(self, image_id: int, place: VocPlace, stem: str, obj: _Object, picture: _Picture) -> BoxRecord | None:
        frame = picture.frame
        if obj.name not in self._ids:
            known = nearest(obj.name, self._ids).rstrip(".")
            self._findings.error(picture.document, f"class '{obj.name}' is not among 'classes'{known}")
            return None
        if obj.difficult and self._difficult == "drop":
            self._findings.box(place.named(stem), "marked difficult dropped")
            return None
        fitted = fit_box(*frame.place(obj.box), frame.width, frame.height)
        note_fit(fitted, place.named(stem), place.images / picture.file_name, self._findings)
        if fitted.box is None:
            return None
        bbox = to_xywh(fitted.box)
        crowd = obj.difficult and self._difficult == "crowd"
        record = BoxRecord(self._next_box, image_id, self._ids[obj.name], bbox, bbox[2] * bbox[3], crowd)
        self._next_box += 1
        return record
