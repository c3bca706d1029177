"""Picture files that end early, as an interrupted copy leaves them: decoded as far as they go, if that is far enough.

Pillow does so with its flag ``LOAD_TRUNCATED_IMAGES``, whose pixels are those of other programs: what is missing of a
JPEG is gray, of other kinds it is 0. Kinds whose decoder needs the whole file (WebP, AVIF, JPEG 2000, packed TIFF) give
no pixels at all.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tood.data.formats.early_end_flag import early_end_accepted
from tood.data.formats.headers import open_image
from tood.io.errors import UserError

_LEAST_DECODED = 0.5  # of the rows; with less, annotated objects are probably missing
_JPEG = ("JPEG", "MPO")
_GRAY = 128  # what libjpeg gives for blocks it has no data of
_GRAY_INK = 127
_START_OF_SCAN = b"\xff\xda"
_START_OF_FRAME = b"\xff\xc2"  # of a progressive JPEG; neither mark occurs in compressed data


def refuse_mostly_missing(path: Path) -> None:
    """Raise UserError for a file that ends so early that less than half of its rows can be decoded, or only a preview.

    Zeros at the end of a JPEG are no data: they fill what a copy could not read.
    """
    with early_end_accepted(True), open_image(path) as image:
        if image.format not in _JPEG:
            _refuse_few_rows(image, path)
            return
    content = path.read_bytes().rstrip(b"\0")
    with early_end_accepted(True), Image.open(io.BytesIO(content), formats=_JPEG) as image:
        if image.info.get("progressive") and not _has_detail(content):
            raise UserError(f"{path}: ends early: only a coarse preview can be decoded; restore it or leave it out.")
        _refuse_few_rows(image, path)


def _refuse_few_rows(image: Image.Image, path: Path) -> None:
    image.load()
    values = np.asarray(image).reshape(image.height, image.width, -1)
    missing = (values == _fill(image)).all(axis=1).any(axis=1)  # any, because planes can lie one after another
    decoded = image.height - int(missing.sum()) if values.any() else 0  # a progressive JPEG is written all or nothing
    if decoded < _LEAST_DECODED * image.height:
        raise UserError(
            f"{path}: ends early: only {decoded:,} of its {image.height:,} rows can be decoded; restore it or leave it "
            "out."
        )


def _fill(image: Image.Image) -> int:
    """The value of pixels for which there are no data."""
    if image.format in _JPEG:
        return _GRAY_INK if image.mode == "CMYK" else _GRAY
    clear = image.info.get("transparency", 0)
    return clear if image.format == "GIF" and isinstance(clear, int) else 0


def _has_detail(content: bytes) -> bool:
    """Whether a progressive JPEG has begun with anything but the means of its blocks of 8x8 px."""
    place = content.rfind(_START_OF_FRAME)  # the last one, since there may be small pictures before
    while (place := content.find(_START_OF_SCAN, place + 1)) >= 0:
        components = content[place + 4 : place + 5]
        if components and any(content[place + 6 + 2 * components[0] : place + 7 + 2 * components[0]]):
            return True  # the scan's last frequency is above 0
    return False
