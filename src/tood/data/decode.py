"""Decoding image files to RGB pixels as a viewer shows them, with one clear sentence for what cannot be decoded."""

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from tood.data.early_end import refuse_mostly_missing
from tood.data.formats.early_end_flag import early_end_accepted, is_early_end
from tood.data.formats.headers import open_image, unreadable
from tood.data.input_sizes import Bounds, resized_size
from tood.io.errors import UserError

_OF_THE_MACHINE = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""Errors that say nothing about the file."""
_STRIP = 1 << 22  # pixels that are converted together
_SPARSE = 64  # px between the pixels that are compared first
_UNSIGNED = ("I;16", "I;16L", "I;16B", "I;16N")
_SIXTEEN_BIT = (*_UNSIGNED, "I")
_PHOTOMETRIC = ExifTags.Base.PhotometricInterpretation
_WHITE_IS_ZERO = 0
_WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_BITS = (8, 10, 12, 14, 16)
_PARTS = (8, 4, 2)  # by which a JPEG's decoder can divide both sides
_TIMES_NEEDED = 2  # the sides that a picture is resized to
_LEAST_HIGH_BYTE = 64  # of colours of 16 bits; 14 bits or fewer stay below
Change = Literal["transparency", "sixteen_bits", "few_bits", "cmyk", "pages", "one_colour", "ended_early"]
"""What the pixels of a picture differ in from its file, or what is odd about them."""


class Decoded(NamedTuple):
    """A picture, perhaps at a part of its size."""

    pixels: Tensor
    """(3,h,w) uint8 RGB, upright."""
    size: tuple[int, int]
    """(width, height) px of the whole picture, which annotations are in."""


@dataclass(frozen=True)
class _Reading:
    """Changes seen while a picture is converted; None where nobody asks for them."""

    path: Path
    changes: set[Change] | None

    def note(self, change: Change) -> None:
        if self.changes is not None:
            self.changes.add(change)


def decode_image(path: Path) -> Tensor:
    """Read an image as uint8 RGB (3,H,W), upright.

    Grayscale, palette and CMYK become RGB, transparency is laid over white, of an animation or of several pages the
    first picture is taken, an EXIF rotation is applied. Gray values of 16 bits are scaled to 8 by as many bits as the
    picture uses (8, 10, 12, 14 or 16). Of a file that ends early what can be decoded is used, if that is at least half
    of the rows; the others are as Pillow leaves them (gray in a JPEG).

    Raises UserError naming the file when it is missing, empty, corrupt, not an image, ends too early, has so many
    pixels (``LARGEST_IMAGE``) that it looks like a decompression bomb, or values that would be lost. Reading takes up
    to 8 bytes a pixel, 11 where the picture has to be turned.
    """
    return _decode(path, None).pixels


def decode_for(path: Path, bounds: Bounds | None) -> Decoded:
    """Read an image as :func:`decode_image` does, which raises alike, large enough to be resized within ``bounds``.

    With bounds a JPEG is decoded at 1/8, 1/4 or 1/2 of its sides where that divides them and leaves twice what it will
    be resized to. That takes a fifth of the time for 12 million pixels, and after an antialiased resize to 256 px it
    makes 0.4 of 255 levels of difference on average.
    """
    return _decode(path, None, bounds)


def rgb_planes(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels (3,H,W) of an opened picture as :func:`decode_image` gives those of a file; UserError alike."""
    return _planes(ImageOps.exif_transpose(image), _Reading(Path("picture"), None))


def examine_image(path: Path) -> tuple[Tensor, frozenset[Change]]:
    """The image as :func:`decode_image` reads it, which raises alike, and in what its pixels differ from the file."""
    changes: set[Change] = set()
    image = _decode(path, changes).pixels
    pixels = image.numpy()
    if all((part == pixels[:, :1, :1]).all() for part in (pixels[:, ::_SPARSE, ::_SPARSE], pixels)):
        changes.add("one_colour")
    return image, frozenset(changes)


def _decode(path: Path, changes: set[Change] | None, bounds: Bounds | None = None) -> Decoded:
    """The pixels; a file that ends early is known by its whole being asked for first."""
    with _explained(path):
        try:
            with early_end_accepted(False):
                return _read(path, changes, bounds)
        except OSError as error:
            if not is_early_end(error):
                raise
        refuse_mostly_missing(path)
        if changes is not None:
            changes.add("ended_early")
        with early_end_accepted(True):
            return _read(path, changes, bounds)


def _read(path: Path, changes: set[Change] | None, bounds: Bounds | None) -> Decoded:
    with open_image(path) as image:
        whole = None if bounds is None else _reduce(image, bounds)
        if changes is not None and getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            changes.add("pages")  # counting them reads the whole of a GIF or TIFF
        if image.mode in _UNSIGNED and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            image = _inverted(image)
        has_wide_colours = _has_wide_colours(image)
        ImageOps.exif_transpose(image, in_place=True)
        planes = _planes(image, _Reading(path, changes))
        if has_wide_colours and 0 < int(planes.max()) < _LEAST_HIGH_BYTE:
            raise UserError(
                f"{path}: has colours of 16 bits of which only the lower ones are used, so that it would be nearly "
                "black; scale it to 8 bits."
            )
        return Decoded(torch.from_numpy(planes), whole or (planes.shape[2], planes.shape[1]))


def _reduce(image: Image.Image, bounds: Bounds) -> tuple[int, int] | None:
    """Let a JPEG be decoded at a part of its size; returns the (width, height) of the whole, upright, if it is one."""
    if not isinstance(image, JpegImageFile):
        return None
    width, height = image.size
    new_width, new_height = resized_size(width, height, bounds)  # turned for a turned picture, and else the same
    for part in _PARTS:
        # Only exactly, for otherwise the last column and row, which are decoded whole, would move all others.
        if (
            not (width % part or height % part)
            and width >= part * _TIMES_NEEDED * new_width
            and height >= part * _TIMES_NEEDED * new_height
        ):
            image.draft(None, (width // part, height // part))
            break
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(5, 9)
    return (height, width) if turned else (width, height)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn any exception that a decoder raises for a broken file into a UserError."""
    advice = "restore it or leave it out"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata; an image that decodes is good enough
            yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image file; {advice}.") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: the image file {unreadable(path)}.") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders of untrusted bytes raise nearly anything
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be decoded ({reason}); {advice}.") from error


def _has_wide_colours(image: Image.Image) -> bool:
    """Whether the file has 16 bits a colour, of which Pillow keeps the upper 8."""
    tiles = getattr(image, "tile", None) or []
    words = [word for tile in tiles for word in (tile[3] if isinstance(tile[3], tuple) else (tile[3],))]
    return image.mode in ("RGB", "RGBA") and any(isinstance(word, str) and ";16" in word for word in words)


def _inverted(image: Image.Image) -> Image.Image:
    """A gray picture of 16 bits whose largest value is black, as X-ray machines write it; Pillow leaves it so."""
    return Image.fromarray(np.invert(np.asarray(image)).astype(np.uint16))  # the pixels are upright already


def _planes(image: Image.Image, reading: _Reading) -> NDArray[np.uint8]:
    """RGB (3,H,W), converted in strips, because Pillow copies the pixels several times."""
    width, height = image.size
    rows = max(1, _STRIP // width)
    brightest = _brightest(image, reading) if image.mode in _SIXTEEN_BIT else 0
    planes = np.empty((3, height, width), np.uint8)
    for top in range(0, height, rows):
        strip = image if rows >= height else image.crop((0, top, width, min(top + rows, height)))
        planes[:, top : top + rows] = np.asarray(_to_rgb(strip, brightest, reading)).transpose(2, 0, 1)
    return planes


def _brightest(image: Image.Image, reading: _Reading) -> int:
    """The gray value that becomes white: the largest of as many bits as the picture uses."""
    darkest, brightest = (int(value) for value in image.getextrema())  # type: ignore[arg-type]
    if darkest < 0 or brightest > 65535:
        raise UserError(f"{reading.path}: has gray values outside 0..65535; convert it to 8 or 16 bits.")
    bits = next(bits for bits in _BITS if brightest < 1 << bits)
    reading.note("sixteen_bits" if bits == 16 else "few_bits")
    return (1 << bits) - 1


def _to_rgb(image: Image.Image, brightest: int, reading: _Reading) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image).astype(np.int64)
        scaled = ((values * 255 + brightest // 2) // brightest).astype(np.uint8)
        if isinstance(see_through := image.info.get("transparency"), int) and (values == see_through).any():
            reading.note("transparency")
            scaled[values == see_through] = 255
        return Image.fromarray(scaled).convert("RGB")
    if image.mode == "F":
        raise UserError(f"{reading.path}: has floating-point pixels; convert it to 8 or 16 bits.")
    if "transparency" in image.info or image.mode in _WITH_ALPHA:
        picture = image.convert("RGBA")
        if picture.getchannel("A").getextrema() == (255, 255):
            return picture.convert("RGB")
        reading.note("transparency")
        return Image.alpha_composite(Image.new("RGBA", picture.size, (255, 255, 255, 255)), picture).convert("RGB")
    if image.mode == "CMYK":
        reading.note("cmyk")
    if image.mode == "RGB":
        image.load()
        return image
    return image.convert("RGB")
