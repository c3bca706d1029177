"""Drawing detections and ground truth: boxes with captions on images."""

import colorsys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Corners = tuple[float, float, float, float]
Item = TypeVar("Item")
SHOWN_SCORE = 0.3  # detections with lower scores are not drawn

# Okabe & Ito's palette, which stays apart for colour-blind readers, ordered by contrast on photographs.
_PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
)
_GOLDEN_TURN = 0.618034
_MIN_FONT, _MAX_FONT = 9, 20


def class_colour(label: int) -> Colour:
    """A colour for each class: the palette first, then hues as far apart as possible."""
    if label < len(_PALETTE):
        return _PALETTE[label]
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN_TURN % 1.0, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def as_corners(boxes: Iterable[Sequence[float]]) -> list[Corners]:
    """COCO boxes (x, y, width, height) as (x1, y1, x2, y2)."""
    return [(x, y, x + width, y + height) for x, y, width, height in boxes]


def spread_evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Up to ``count`` of the items at even distances, a choice that favours no method."""
    if len(items) <= count:
        return list(items)
    return [items[(2 * place + 1) * len(items) // (2 * count)] for place in range(count)]


def caption_font(size: float, *texts: str) -> Font:
    """Pillow's own font, which is limited to ASCII, or DejaVu Sans where a text has other characters."""
    if all(text.isascii() for text in texts):
        return ImageFont.load_default(size=size)
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def draw_detections(
    image: Any,
    boxes: Any,
    labels: Any,
    scores: Any | None,
    classes: Sequence[str],
    *,
    longer_side: int | None = None,
) -> Image.Image:
    """Boxes and captions on a copy of ``image``.

    ``image`` is a PIL image or uint8 (3,H,W); ``boxes`` (D,4) xyxy in its pixels, ``labels`` (D,) index
    ``classes``, ``scores`` (D,) are written as percent; None draws ground truth, names only. With
    ``longer_side`` the picture is resized first, so that captions stay readable on small images.
    """
    canvas = _as_rgb(image)
    scale = 1.0 if longer_side is None else longer_side / max(canvas.size)
    if scale != 1.0:
        size = (max(1, round(canvas.width * scale)), max(1, round(canvas.height * scale)))
        canvas = canvas.resize(size, Image.Resampling.BICUBIC)
    corners = np.asarray(boxes, float).reshape(-1, 4) * scale
    names = np.asarray(labels, int).reshape(-1)
    values = None if scores is None else np.asarray(scores, float).reshape(-1)
    order = range(len(corners)) if values is None else np.argsort(values, kind="stable").tolist()
    longer = max(canvas.size)
    font = caption_font(min(max(longer / 42, _MIN_FONT), _MAX_FONT), *classes)
    width = max(1, round(longer**0.5 / 9))
    pen = ImageDraw.Draw(canvas)
    for index in order:
        _draw_outline(pen, corners[index], class_colour(names[index]), width)
    for index in order:
        caption = classes[names[index]]
        if values is not None:
            caption = f"{caption} {100 * values[index]:.0f}"
        _draw_caption(pen, canvas.size, corners[index], caption, class_colour(names[index]), font)
    return canvas


def _as_rgb(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB") if image.mode != "RGB" else image.copy()
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"expected uint8 (3,H,W), got {pixels.dtype} {pixels.shape}")
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _draw_outline(pen: ImageDraw.ImageDraw, box: np.ndarray, colour: Colour, width: int) -> None:
    x1, y1, x2, y2 = box.tolist()
    pen.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=width)


def _draw_caption(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: np.ndarray,
    caption: str,
    colour: Colour,
    font: Font,
) -> None:
    """A filled label on the box's upper edge, moved inwards where it would leave the image."""
    left, top, right, bottom = pen.textbbox((0, 0), caption, font=font)
    wide, high = right - left + 4, bottom - top + 3
    x = min(max(box[0], 0), max(0, size[0] - wide))
    y = box[1] - high if box[1] >= high else max(box[1], 0)
    pen.rectangle((x, y, x + wide, y + high), fill=colour)
    dark = sum(part * share for part, share in zip(colour, (0.299, 0.587, 0.114), strict=True)) < 120
    pen.text((x + 2 - left, y + 1 - top), caption, fill="white" if dark else "black", font=font)
