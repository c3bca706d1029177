"""Image headers: which image files are read, and their size and EXIF orientation without decoding them.

A size is the one after EXIF transposition, because that is how images are decoded for training.
"""

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError, features
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from tood.data.findings import LEAVE_OUT, Findings
from tood.data.formats.early_end_flag import early_end_accepted
from tood.io.consulted import note_absent
from tood.io.errors import UserError
from tood.io.escape import is_unicode
from tood.io.text import without_path

LARGEST_IMAGE = 150_000_000
"""Pixels of an image that is decoded, so that 12,000 x 9,000 (108 million) works. A few kB can announce any number;
while a picture is decoded it takes 8 to 11 bytes for each, so this bounds what it takes to 1.7 GB."""


def _registers_heif() -> bool:
    """Whether HEIC files can be read, for which Pillow needs a plug-in."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


_SUFFIXES_OF = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif"),
}
"""Suffixes of Pillow's formats that are accepted; others start programs (EPS) or are little used and so little
tested."""
_HAS = {"WEBP": features.check("webp"), "JPEG2000": features.check("jpg_2000"), "AVIF": features.check("avif")}
_HAS["HEIF"] = _registers_heif()
FORMATS = tuple(name for name in _SUFFIXES_OF if _HAS.get(name, True))
IMAGE_SUFFIXES = frozenset(suffix for name in FORMATS for suffix in _SUFFIXES_OF[name])
"""Suffixes of the image files that are read, in lower case, in every layout."""
_NEVER_READ = {".jxl", ".psd", ".svg", ".eps", ".tga", ".ico", ".exr", ".hdr", ".dcm", ".qoi", ".sgi", ".pcx", ".fits"}
_NEVER_READ |= {".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2"}  # of cameras
OTHER_IMAGE_SUFFIXES = (
    _NEVER_READ | {suffix for all_of in _SUFFIXES_OF.values() for suffix in all_of}
) - IMAGE_SUFFIXES
"""Suffixes of pictures that are not read here."""
Box = tuple[float, float, float, float]
_PNG_SIGNATURE = 8  # bytes
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_METADATA = (b"Raw profile type", b"XML:com.adobe.xmp")


@dataclass(frozen=True)
class Header:
    """Stored size (px) and EXIF orientation (1-8) of an image file."""

    stored_width: int
    stored_height: int
    orientation: int = 1

    @property
    def turned(self) -> bool:
        """Whether decoding swaps width and height."""
        return self.orientation >= 5

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) after EXIF transposition."""
        stored = self.stored_width, self.stored_height
        return stored[::-1] if self.turned else stored

    def upright(self, box: Box) -> Box:
        """Take a box (x1, y1, x2, y2) px of the stored picture to the transposed one (orientation 5-8)."""
        x1, y1, x2, y2 = box
        width, height = self.stored_width, self.stored_height
        if self.orientation in (6, 7):
            y1, y2 = height - y2, height - y1
        if self.orientation in (7, 8):
            x1, x2 = width - x2, width - x1
        return y1, x1, y2, x2


@dataclass(frozen=True)
class Frame:
    """The image that boxes are placed in: its size and how its annotated coordinates become pixels of it."""

    width: int
    height: int
    header: Header
    drawn_unturned: bool = False

    def place(self, box: Box) -> Box:
        return self.header.upright(box) if self.drawn_unturned else box


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file of a known format, which for an animation is its first picture.

    Raises UserError for what is no file or has more than ``LARGEST_IMAGE`` pixels, and whatever Pillow makes of a file
    that is not a readable image.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise UserError(f"{path}: is no file; restore it or leave it out.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, and of pictures between Pillow's limit and ours
        try:
            opened = Image.open(path, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise _too_large(path) from error
        with opened as image:
            if image.width * image.height > LARGEST_IMAGE:
                raise _too_large(path)
            yield image


def _too_large(path: Path) -> UserError:
    return UserError(f"{path}: has more than {LARGEST_IMAGE // 10**6} million pixels; scale the image down.")


def read_header(path: Path) -> Header:
    """Read size and orientation; raises as ``open_image`` does."""
    with early_end_accepted(True), open_image(path) as image:  # whether enough is left is seen where it is decoded
        orientation = 1
        if not isinstance(image, PngImageFile) or _may_be_turned(image):  # of a PNG, Pillow decodes all pixels first
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        width, height = image.size
        if isinstance(image, TiffImageFile):  # for TIFF Pillow gives the transposed size already
            width, height = (image.tag_v2[tag] for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength))
    return Header(width, height, orientation if orientation in range(1, 9) else 1)


def _may_be_turned(image: PngImageFile) -> bool:
    """Whether a PNG has EXIF or XMP data, before or behind its pixels; yes where its chunks cannot be followed."""
    file = image.fp
    assert file is not None
    before, place = file.tell(), _PNG_SIGNATURE
    try:
        while True:
            file.seek(place)
            length, kind = int.from_bytes(file.read(4)), file.read(4)
            if kind == b"IEND":
                return False
            is_text = kind in _PNG_TEXTS and file.read(min(length, 17)).startswith(_PNG_METADATA)
            if is_text or kind == b"eXIf" or len(kind) < 4:
                return True
            place += length + 12  # length, kind and checksum
    finally:
        file.seek(before)


def unreadable(path: Path) -> str:
    """Why a file that no decoder recognises cannot be read, and what to do, as the end of a sentence."""
    suffix = path.suffix.lower()
    if not path.stat().st_size:
        return "is empty; restore it or leave it out"
    if suffix in OTHER_IMAGE_SUFFIXES:
        plugin = ", or install pillow-heif" if suffix in _SUFFIXES_OF["HEIF"] else ""
        return f"is of a kind ({suffix}) that is not read here; convert it to PNG or JPEG{plugin}"
    return "is damaged or not in a known format; restore it or leave it out"


def refuse_picture(path: Path, text: str, error: Exception, findings: Findings) -> None:
    """Record a picture that could not be read: as unreadable, or as another error where the disk refused it.

    A file that is missing, no regular file or not permitted to be read says nothing of its content.
    """
    refused = any(isinstance(one, OSError) and one.errno is not None for one in (error, error.__cause__))
    if refused or not os.path.isfile(path):
        findings.error(path, text)
    else:
        findings.unreadable(path, text)


def settle_frame(path: Path, annotated: tuple[int, int] | None, findings: Findings, where: str) -> Frame | None:
    """Compare the annotated size (w, h) with the file's, which wins; None (and an error) if unreadable.

    Boxes drawn on a photograph before EXIF transposition are recognised by the annotated size.
    """
    if not is_unicode(str(path)):
        findings.error(where, "the file's name is not valid UTF-8; rename it")
        return None
    try:
        header = read_header(path)
    except FileNotFoundError:
        link = f", only a link to {os.readlink(path)}" if path.is_symlink() else ""
        note_absent(path)
        findings.missing(where, f"the image file is missing{link}; restore it or leave it out")
        return None
    except UnidentifiedImageError:
        findings.unreadable(path, f"the image file {unreadable(path)}")
        return None
    except UserError as error:
        refuse_picture(path, without_path(error, path), error, findings)
        return None
    except Exception as error:  # decoders of untrusted bytes raise nearly anything
        reason = getattr(error, "strerror", None) or error
        refuse_picture(path, f"the image file cannot be read ({reason}){LEAVE_OUT}", error, findings)
        return None
    if annotated is None or annotated == header.size:
        if header.orientation != 1 and annotated in (None, (header.stored_width, header.stored_height)):
            findings.note(where, "turned upright (EXIF); its boxes are taken as drawn on the upright picture")
        return Frame(*header.size, header)
    if header.turned and annotated == (header.stored_width, header.stored_height):
        findings.note(where, "boxes were drawn before the photograph was turned upright (EXIF); turned with it")
        return Frame(*header.size, header, drawn_unturned=True)
    findings.share("other_size", path, (annotated, header.size))
    findings.note(
        where,
        f"annotated as {annotated[0]}x{annotated[1]} pixels, but the file has {header.size[0]}x"
        f"{header.size[1]}; the file's size is used and the boxes are taken as pixels of it",
    )
    return Frame(*header.size, header)
