"""Reader of the Pascal VOC format: one XML file per image, splits as lists of image stems."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from tood.config.datasets import VocDataset
from tood.config.messages import nearest
from tood.data.findings import Findings
from tood.data.formats.headers import IMAGE_SUFFIXES, Box, Frame, list_files, list_images, settle_frame
from tood.data.formats.list_files import read_lines, repeated, report_overlap
from tood.data.formats.records import (
    BoxRecord,
    Category,
    ImageRecord,
    RawDataset,
    RawSplit,
    fit_box,
    numbered,
    to_xywh,
)
from tood.data.formats.splits import draw_splits
from tood.io.errors import UserError
from tood.io.read import read_bytes

_FLAGS = ("-1", "0", "1")  # in the class lists of the original VOC: "000012 -1"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_LARGEST = 16 << 20  # bytes of an annotation; one of 2,000 objects has 0.5 MB


@dataclass(frozen=True)
class _Object:
    name: str
    box: Box
    difficult: bool


@dataclass(frozen=True)
class _Picture:
    """One image with its objects, before classes and ids are known."""

    file_name: str
    frame: Frame
    objects: tuple[_Object, ...]


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
    members = _members(config, root, set(files), set(documents), findings)
    stems = sorted(set().union(*members.values()))
    pictures = {}
    for stem in stems:
        picture = _read_picture(stem, files.get(stem), documents.get(stem), images, annotations, findings)
        if picture is not None:
            pictures[stem] = picture
    classes = config.classes or sorted({obj.name for picture in pictures.values() for obj in picture.objects})
    if pictures and not classes:
        findings.error(annotations, "holds no objects to find the classes from")
    categories = numbered(classes)
    records = _Records(config, categories, annotations, findings)
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
        stem = _stem_of(path, folder)
        if stem in files:
            findings.error(path, f"has the same stem as {files[stem].name}; keep one of them")
        files[stem] = path
    return files


def _stem_of(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _members(
    config: VocDataset, root: Path, files: set[str], documents: set[str], findings: Findings
) -> dict[str, list[str]]:
    """Stems of every split, sorted."""
    if config.draw is not None:
        where = root / config.annotations
        for stem in sorted(files - documents):
            findings.note(stem, "has no annotation file and is left out")
        return draw_splits(documents, config.draw, findings, where)
    members = {}
    for name, list_file in (config.splits or {}).items():
        path = root / list_file
        lines = read_lines(path, findings, f"set 'splits.{name}' of data set '{config.name}'")
        if lines is None:
            continue
        stems = [_stem(line, documents) for line in lines]
        for stem in repeated(stems):
            findings.note(path, f"lists '{stem}' more than once; used once")
        if not stems:
            findings.error(path, f"split '{name}' has no images")
        members[name] = sorted(set(stems))
    report_overlap(members, findings)
    return members


def _stem(line: str, documents: set[str]) -> str:
    """The stem a line names: itself, or without a class file's flag, a suffix or folders above."""
    if line in documents:
        return line
    *name, flag = line.rsplit(maxsplit=1)
    for text in (line, *name) if flag in _FLAGS else (line,):
        path = PurePosixPath(text.replace("\\", "/"))
        if path.suffix.lower() in IMAGE_SUFFIXES | {".xml"}:
            path = path.with_suffix("")
        stem = next((tail for tail in _tails(path) if tail in documents), path.name)
        if stem in documents:
            break
    return stem


def _tails(path: PurePosixPath) -> list[str]:
    """``a/b/c``, ``b/c`` and ``c`` of a path a/b/c."""
    return [str(PurePosixPath(*path.parts[start:])) for start in range(len(path.parts))]


def _read_picture(
    stem: str, image: Path | None, document: Path | None, images: Path, annotations: Path, findings: Findings
) -> _Picture | None:
    if document is None:
        findings.error(annotations / f"{stem}.xml", "no such file, but a split lists it")
        return None
    try:
        tree: Element = fromstring(read_bytes(document, _LARGEST), forbid_dtd=True)
    except DefusedXmlException:
        findings.error(
            document, "has a DOCTYPE, which can stand for any amount of text or for other files; leave it out"
        )
        return None
    except UserError as error:
        findings.error(document, str(error).removeprefix(f"{document}: ").rstrip("."))
        return None
    except (ParseError, LookupError, ValueError, RecursionError) as error:
        findings.error(document, f"is not a readable XML file ({error})")
        return None
    if tree.tag != "annotation":
        findings.error(document, "is not a VOC annotation; its outermost element must be <annotation>")
        return None
    image = image or _named_image(tree, images / PurePosixPath(stem).parent)
    where = str(image or images / f"{stem}.*")
    if image is None:
        findings.error(where, "the image file is missing")
        return None
    frame = settle_frame(image, _annotated_size(tree), findings, where)
    if frame is None:
        return None
    objects = [_read_object(element, document, findings) for element in tree.iterfind("object")]
    return _Picture(image.relative_to(images).as_posix(), frame, tuple(obj for obj in objects if obj is not None))


def _named_image(tree: Element, folder: Path) -> Path | None:
    """The image that ``<filename>`` names, for sets whose annotation files are named otherwise."""
    name = PureWindowsPath((tree.findtext("filename") or "").strip()).name  # splits at both kinds of slashes
    candidate = folder / name
    return candidate if name and candidate.suffix.lower() in IMAGE_SUFFIXES and candidate.is_file() else None


def _annotated_size(tree: Element) -> tuple[int, int] | None:
    """``<size>`` where it says something; many tools leave it out or write zeros."""
    try:
        width = int(float(tree.findtext("size/width") or 0))
        height = int(float(tree.findtext("size/height") or 0))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _read_object(element: Element, document: Path, findings: Findings) -> _Object | None:
    name = (element.findtext("name") or "").strip()
    if not name:
        findings.error(document, "an <object> has no <name>")
        return None
    corners = []
    for corner in _CORNERS:
        text = (element.findtext(f"bndbox/{corner}") or "").strip()
        if not text:
            findings.error(document, f"the <object> '{name}' has no <bndbox>/<{corner}>")
            return None
        try:
            corners.append(float(text))
        except ValueError:
            findings.error(document, f"the <object> '{name}' has '{text}' for <{corner}>, which is not a number")
            return None
    difficult = (element.findtext("difficult") or "0").strip().lower() in ("1", "true")
    return _Object(name, (corners[0], corners[1], corners[2], corners[3]), difficult)


class _Records:
    """Images and boxes by stem, numbered as they are added."""

    def __init__(
        self, config: VocDataset, categories: tuple[Category, ...], annotations: Path, findings: Findings
    ) -> None:
        self._difficult = config.difficult
        self._ids = {category.name: category.id for category in categories}
        self._annotations = annotations
        self._findings = findings
        self._next_box = 1
        self.images: dict[str, ImageRecord] = {}
        self.boxes: dict[str, list[BoxRecord]] = {}

    def add(self, number: int, stem: str, picture: _Picture) -> None:
        frame = picture.frame
        self.images[stem] = ImageRecord(number, picture.file_name, frame.width, frame.height)
        boxes = [self._box(number, stem, obj, frame) for obj in picture.objects]
        self.boxes[stem] = [box for box in boxes if box is not None]

    def _box(self, image_id: int, stem: str, obj: _Object, frame: Frame) -> BoxRecord | None:
        if obj.name not in self._ids:
            where = self._annotations / f"{stem}.xml"
            known = nearest(obj.name, self._ids).rstrip(".")
            self._findings.error(where, f"class '{obj.name}' is not among 'classes'{known}")
            return None
        if obj.difficult and self._difficult == "drop":
            self._findings.box(stem, "marked difficult dropped")
            return None
        fitted = fit_box(*frame.place(obj.box), frame.width, frame.height)
        if fitted.problem is not None:
            self._findings.box(stem, fitted.problem)
        if fitted.box is None:
            return None
        bbox = to_xywh(fitted.box)
        crowd = obj.difficult and self._difficult == "crowd"
        record = BoxRecord(self._next_box, image_id, self._ids[obj.name], bbox, bbox[2] * bbox[3], crowd)
        self._next_box += 1
        return record
