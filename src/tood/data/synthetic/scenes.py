"""Drawing the generated data set's images: outlines, surfaces and backgrounds.

Every function draws from the generator it is given and from nothing else. Coordinates are pixels of the
finished picture, colours are RGB in 0..255.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.float64]
CLASSES = ("bar", "cross", "star", "ring", "disc", "hexagon")
SUPERSAMPLING = 4
_MIN_THICKNESS = 2.5
_MIN_PERIOD = 4.0
# Typical values of a class, which hold for a part of its objects only: colour alone does not tell classes apart.
_HUES = (0.08, 0.30, 0.15, 0.60, 0.95, 0.78)
_PATTERNS = ("stripes", "dots", "shade", "rings", "speckle", "checker")
_FAVOURITES = ("stripes", "checker", "shade", "dots", "rings", "rings")
_HUE_HOLDS, _HUE_SPREAD, _PATTERN_HOLDS = 0.65, 0.11, 0.6


@dataclass(frozen=True)
class Outline:
    """An object's border: polygon corners around the origin (n,2) px, the same of its hole, its rotation."""

    label: int
    radius: float
    angle: float
    corners: Floats
    hole: Floats | None = None


def _ellipse(half_width: float, half_height: float) -> Floats:
    turn = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)
    return np.stack([half_width * np.cos(turn), half_height * np.sin(turn)], axis=1)


def _regular(count: int, radii: Floats) -> Floats:
    turn = np.arange(count) * (2 * np.pi / count) - np.pi / 2
    return np.stack([radii * np.cos(turn), radii * np.sin(turn)], axis=1)


def _plus(arm: float) -> Floats:
    return np.array(
        [
            *[(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm)],
            *[(arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm)],
        ]
    )


def draw_outline(rng: np.random.Generator, label: int, radius: float) -> Outline:
    """A random member of a class: proportions and rotation vary, ``radius`` px is half its longest extent."""
    kind = CLASSES[label]
    squeeze = rng.uniform(0.72, 1.0)
    hole = None
    if kind == "bar":
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
        squeeze = max(rng.uniform(0.13, 0.28), _MIN_THICKNESS / (2 * radius))
    elif kind == "cross":
        corners = _plus(max(rng.uniform(0.2, 0.34), _MIN_THICKNESS / (2 * radius)))
    elif kind == "star":
        radii = np.ones(10)
        radii[1::2] = rng.uniform(0.38, 0.5)
        corners = _regular(10, radii)
    elif kind == "ring":
        corners = _ellipse(1.0, 1.0)
        hole = corners * rng.uniform(0.48, 0.66)
    elif kind == "disc":
        corners = _ellipse(1.0, 1.0)
    else:
        corners = _regular(6, rng.uniform(0.92, 1.0, 6))
    angle = rng.uniform(0.0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    place = np.array([[cos, sin], [-sin, cos]]) * np.array([[1.0], [squeeze]]) * radius
    return Outline(label, radius, angle, corners @ place, None if hole is None else hole @ place)


@dataclass(frozen=True)
class Patch:
    """A drawn outline: coverage (h,w) uint8 of whole pixels from (left, top), exact box (x1,y1,x2,y2)."""

    left: int
    top: int
    coverage: NDArray[np.uint8]
    box: tuple[float, float, float, float]


def draw_patch(outline: Outline, centre: tuple[float, float]) -> Patch:
    """Fill an outline with smooth edges; the box is tight to 1 / SUPERSAMPLING px and may leave the image."""
    corners = outline.corners + centre
    left, top = (int(v) for v in np.floor(corners.min(0)) - 1)
    right, bottom = (int(v) for v in np.ceil(corners.max(0)) + 2)
    fine = Image.new("L", ((right - left) * SUPERSAMPLING, (bottom - top) * SUPERSAMPLING))
    pen = ImageDraw.Draw(fine)
    pen.polygon([(x, y) for x, y in ((corners - (left, top)) * SUPERSAMPLING).tolist()], fill=255)
    if outline.hole is not None:
        hole = (outline.hole + centre - (left, top)) * SUPERSAMPLING
        pen.polygon([(x, y) for x, y in hole.tolist()], fill=0)
    x1, y1, x2, y2 = fine.getbbox() or (0, 0, 1, 1)
    scale = 1 / SUPERSAMPLING
    box = (left + x1 * scale, top + y1 * scale, left + x2 * scale, top + y2 * scale)
    return Patch(left, top, np.asarray(fine.reduce(SUPERSAMPLING)), box)


def hsv(hue: float, saturation: float, value: float) -> Floats:
    """RGB (3,) in 0..255 of a colour given in 0..1."""
    wheel = np.clip(np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    colour: Floats = value * 255 * (1 - saturation + saturation * wheel)
    return colour


def object_colours(rng: np.random.Generator, label: int, behind: Floats) -> tuple[Floats, Floats]:
    """Two colours for a surface, the first one visibly apart from the mean colour (3,) behind it."""
    for _ in range(6):
        typical = rng.random() < _HUE_HOLDS
        hue = _HUES[label] + rng.normal(0.0, _HUE_SPREAD) if typical else rng.random()
        first = hsv(hue % 1.0, rng.uniform(0.35, 0.95), rng.uniform(0.35, 1.0))
        if np.abs(first - behind).sum() > 130:
            break
    lighter = first.mean() < 120
    second = first * rng.uniform(0.35, 0.7) if not lighter else 255 - (255 - first) * rng.uniform(0.4, 0.75)
    return first, second


def draw_surface(
    rng: np.random.Generator, outline: Outline, patch: Patch, centre: tuple[float, float], behind: Floats
) -> Image.Image:
    """Textured, shaded RGB picture for a patch; it stands out from the mean colour ``behind`` (3,)."""
    height, width = patch.coverage.shape
    x = (np.arange(width, dtype=np.float32) + (patch.left + 0.5 - centre[0]))[None, :]
    y = (np.arange(height, dtype=np.float32) + (patch.top + 0.5 - centre[1]))[:, None]
    cos, sin = np.float32(np.cos(outline.angle)), np.float32(np.sin(outline.angle))
    u, v = cos * x + sin * y, cos * y - sin * x
    wave = np.float32(2 * np.pi / max(_MIN_PERIOD, outline.radius * rng.uniform(0.22, 0.5)))
    favourite = rng.random() < _PATTERN_HOLDS
    pattern = _FAVOURITES[outline.label] if favourite else _PATTERNS[rng.integers(len(_PATTERNS))]
    if pattern == "stripes":
        mix = np.sin(u * wave) * 2
    elif pattern == "rings":
        mix = np.sin(np.sqrt(u * u + v * v) * wave) * 2
    elif pattern == "checker":
        mix = np.sin(u * wave) * np.sin(v * wave) * 3
    elif pattern == "dots":
        mix = (np.cos(u * wave) + np.cos(v * wave) - 0.9) * 2
    elif pattern == "speckle":
        coarse = (max(2, width // 4), max(2, height // 4))
        mix = enlarge(rng.random((coarse[1], coarse[0]), np.float32), width, height) * 6 - 3
    else:
        mix = (u * np.float32(rng.choice([-1, 1])) + v) / np.float32(outline.radius)
    mix = np.clip(mix * np.float32(0.5) + np.float32(0.5), 0, 1)
    first, second = (c.astype(np.float32) for c in object_colours(rng, outline.label, behind))
    light = rng.uniform(-0.25, 0.25, 2).astype(np.float32) / np.float32(outline.radius)
    shade = 1 + light[0] * x + light[1] * y
    colour = (first + mix[:, :, None] * (second - first)) * shade[:, :, None]
    return Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8))


def enlarge(values: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Smoothly interpolate a small (h,w) map to (height,width)."""
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC))


def draw_background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Gradient, cloud or wave texture and clutter (lines, blobs, specks) that belongs to no class."""
    rows, columns = rng.integers(2, 6, 2)
    base = hsv(rng.random(), rng.uniform(0.05, 0.5), rng.uniform(0.25, 0.85))
    coarse = np.clip(base + rng.normal(0.0, rng.uniform(8, 34), (rows, columns, 3)), 0, 255).astype(np.uint8)
    canvas = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    kind = rng.random()
    strength = np.float32(rng.uniform(6, 26))
    if kind < 0.45:
        cells = int(rng.integers(6, 28))
        texture = enlarge(rng.standard_normal((cells, cells), np.float32), width, height) * strength
    elif kind < 0.75:
        angle, wave = rng.uniform(0, np.pi), 2 * np.pi / rng.uniform(5, 24)
        bend = enlarge(rng.standard_normal((4, 4), np.float32), width, height)
        x, y = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
        along = x * np.float32(np.cos(angle) * wave) + y * np.float32(np.sin(angle) * wave)
        texture = np.sin(along + bend) * (strength * np.float32(0.7))
    else:
        texture = np.zeros((height, width), np.float32)
    tinted = np.asarray(canvas, np.float32) + texture[:, :, None]
    canvas = Image.fromarray(np.clip(tinted, 0, 255).astype(np.uint8))
    for _ in range(rng.integers(0, 5)):
        _draw_blob(rng, canvas)
    draw_lines(rng, canvas, int(rng.integers(0, 7)))
    return canvas


def _draw_blob(rng: np.random.Generator, canvas: Image.Image) -> None:
    """A half transparent lump without a regular outline."""
    width, height = canvas.size
    turn = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    radius = np.ones_like(turn)
    for waves in (2, 3, 4):
        radius += rng.uniform(0.1, 0.3) * np.cos(waves * turn + rng.uniform(0, 7))
    size = max(width, height) * rng.uniform(0.03, 0.2)
    corners = np.stack([np.cos(turn), np.sin(turn)], 1) * (radius * size)[:, None]
    corners += rng.uniform(0, 1, 2) * (width, height)
    pen = ImageDraw.Draw(canvas, "RGBA")
    colour = hsv(rng.random(), rng.uniform(0.0, 0.6), rng.uniform(0.2, 0.9))
    pen.polygon([(x, y) for x, y in corners.tolist()], fill=(*colour.astype(int).tolist(), int(rng.integers(50, 150))))


def draw_lines(rng: np.random.Generator, canvas: Image.Image, count: int) -> None:
    """Thin crooked lines: thinner than any bar, so they are clutter and not objects."""
    width, height = canvas.size
    pen = ImageDraw.Draw(canvas, "RGBA")
    for _ in range(count):
        colour = hsv(rng.random(), rng.uniform(0.0, 0.7), rng.uniform(0.1, 1.0)).astype(int).tolist()
        points = rng.uniform(-0.1, 1.1, 2) + np.cumsum(rng.normal(0, 0.22, (int(rng.integers(2, 5)), 2)), axis=0)
        path = [(x, y) for x, y in (points * (width, height)).tolist()]
        pen.line(path, fill=(*colour, int(rng.integers(90, 220))), width=1)


def finish(rng: np.random.Generator, canvas: Image.Image) -> NDArray[np.uint8]:
    """Sensor noise and exposure; returns (h,w,3) uint8."""
    pixels = np.asarray(canvas, np.float32)
    noise = rng.standard_normal(pixels.shape[:2], np.float32)[:, :, None] * np.float32(rng.uniform(1, 9))
    gain, lift = np.float32(rng.uniform(0.8, 1.15)), np.float32(rng.uniform(-12, 12))
    return np.clip(pixels * gain + (lift + noise), 0, 255).astype(np.uint8)
