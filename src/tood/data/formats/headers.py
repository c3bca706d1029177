"""Image headers: size and EXIF orientation of image files without decoding them; listing the images of a folder.

A size is the one after EXIF transposition, because that is how images are decoded for training.
"""

import os
import stat
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from tood.data.findings import Findings
from tood.io.consulted import note_listing
from tood.io.errors import UserError
from tood.io.escape import is_unicode

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
LARGEST_IMAGE = 150_000_000
"""Pixels of an image that is decoded, so that 12,000 x 9,000 (108 million) works. A few kB can announce any number;
while a picture is decoded it takes 8 to 11 bytes for each, so this bounds what it takes to 1.7 GB."""
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000")
"""Pillow's formats that are accepted; others start programs (EPS) or are little used and so little tested."""
Box = tuple[float, float, float, float]


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
    with open_image(path) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        width, height = image.size
        if isinstance(image, TiffImageFile):  # for TIFF Pillow gives the transposed size already
            width, height = (image.tag_v2[tag] for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength))
    return Header(width, height, orientation if orientation in range(1, 9) else 1)


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
        findings.error(where, "the image file is missing")
        return None
    except UnidentifiedImageError:
        findings.error(where, "the image file is damaged or not in a known format")
        return None
    except UserError as error:
        findings.error(where, str(error).removeprefix(f"{path}: ").rstrip("."))
        return None
    except Exception as error:  # decoders of untrusted bytes raise nearly anything
        findings.error(where, f"the image file cannot be read ({getattr(error, 'strerror', None) or error})")
        return None
    if annotated is None or annotated == header.size:
        if header.orientation != 1 and annotated in (None, (header.stored_width, header.stored_height)):
            findings.note(where, "turned upright (EXIF); its boxes are taken as drawn on the upright picture")
        return Frame(*header.size, header)
    if header.turned and annotated == (header.stored_width, header.stored_height):
        findings.note(where, "boxes were drawn before the photograph was turned upright (EXIF); turned with it")
        return Frame(*header.size, header, drawn_unturned=True)
    findings.note(
        where,
        f"annotated as {annotated[0]}x{annotated[1]} pixels, but the file has {header.size[0]}x"
        f"{header.size[1]}; the file's size is used and the boxes are taken as pixels of it",
    )
    return Frame(*header.size, header)


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder and below it, sorted by path; hidden files and folders are left out.

    Links are followed; a broken link is listed, so that reading it reports the problem.
    """
    return list_files(folder, IMAGE_SUFFIXES)


def list_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Like :func:`list_images`, for files with these suffixes (lower case). Raises UserError for unreadable folders."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}.") from error

    note_listing(folder, tuple(sorted(suffixes)))
    found: list[Path] = []
    seen = set(folder.resolve().parents)
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = Path(place).resolve()
        if real in seen:  # a link back up, or a second way to the same folder
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            path
            for path in (Path(place, name) for name in names if not name.startswith("."))
            if path.suffix.lower() in suffixes and (path.is_file() or path.is_symlink())
        ]
    return sorted(found)
