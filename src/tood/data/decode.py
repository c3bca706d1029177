"""Decoding image files to RGB pixels, with one clear sentence for every file that cannot be decoded."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from tood.data.formats.headers import open_image
from tood.io.errors import UserError

_STRIP = 1 << 22  # pixels that are converted together
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def decode_image(path: Path) -> Tensor:
    """Read an image as uint8 RGB (3,H,W), upright.

    Grayscale, palette and CMYK become RGB, 16 bits are scaled to 8, transparency is laid over black, of an
    animation the first picture is taken, an EXIF rotation is applied.

    Raises UserError naming the file when it is missing, empty, truncated, corrupt, not an image, or has so
    many pixels (``LARGEST_IMAGE``) that it looks like a decompression bomb. Reading takes up to 8 bytes a pixel,
    11 where the picture has to be turned.
    """
    with _explained(path), open_image(path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        return torch.from_numpy(_planes(image, path))


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
        what = "is not an image in a known format, or its header is corrupt" if path.stat().st_size else "is empty"
        raise UserError(f"{path}: {what}; {advice}.") from error
    except Exception as error:  # decoders of untrusted bytes raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be decoded ({reason}); {advice}.") from error


def _planes(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    """RGB (3,H,W), converted in strips, because Pillow copies the pixels several times."""
    width, height = image.size
    rows = max(1, _STRIP // width)
    planes = np.empty((3, height, width), np.uint8)
    for top in range(0, height, rows):
        strip = image if rows >= height else image.crop((0, top, width, min(top + rows, height)))
        planes[:, top : top + rows] = np.asarray(_to_rgb(strip, path)).transpose(2, 0, 1)
    return planes


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise UserError(f"{path}: has gray values outside 0..65535; convert it to 8 or 16 bits.")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UserError(f"{path}: has floating-point pixels; convert it to 8 or 16 bits.")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture).convert("RGB")
    return image.convert("RGB")
