"""Points and anchors: the locations of all pyramid levels at which a dense detector predicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from tood.data.network_input import PAD_MULTIPLE

STRIDES = (8, 16, 32, 64, 128)


@dataclass(frozen=True)
class AnchorShapes:
    """The anchors of one location: ``per_octave`` sizes for each of the height / width ``ratios``.

    Sizes are ``scale`` * 2^(i / per_octave) strides; an anchor of side a and ratio r is a / sqrt(r) wide and
    a * sqrt(r) high. One square of 8 strides is what ATSS and its successors use.
    """

    scale: float = 8.0
    per_octave: int = 1
    ratios: tuple[float, ...] = (1.0,)

    @property
    def per_location(self) -> int:
        return self.per_octave * len(self.ratios)

    def half_sizes(self, stride: int) -> list[tuple[float, float]]:
        """Half widths and heights in pixels, the size running fastest; float32 numbers."""
        sizes = np.array([self.scale * 2 ** (step / self.per_octave) for step in range(self.per_octave)], np.float32)
        roots = np.sqrt(np.array(self.ratios, np.float32))[:, None]
        side = np.float32(stride)
        halves = np.stack([side * (1 / roots) * sizes, side * roots * sizes], axis=-1) / 2
        return [(float(width), float(height)) for width, height in halves.reshape(-1, 2)]


SQUARE = AnchorShapes()


@dataclass(frozen=True, eq=False)
class Cells:
    """Where the N locations lie in the maps of their levels; for one anchor at a location."""

    positions: Tensor
    """(2, N) int64 row and column."""
    sizes: Tensor
    """(2, N) int64 height and width of the level's map."""
    starts: Tensor
    """(N,) int64 number of the level's first location."""


@dataclass(frozen=True, eq=False)
class Points:
    """Locations of all pyramid levels, P3 first, row-major inside a level; N of them.

    The location of row r and column c at stride s lies at (c * s, r * s): there is no half-cell shift. With
    A anchors at a location it stands here A times, its anchors one after the other.
    """

    centres: Tensor
    """(N, 2) x and y in pixels."""
    strides: Tensor
    """(N,) in pixels, same dtype as the centres."""
    anchors: Tensor
    """(N, 4) boxes around the centres."""
    level_sizes: tuple[tuple[int, int], ...]
    """(h, w) of every level's map."""
    anchors_per_location: int = 1

    @property
    def level_counts(self) -> list[int]:
        return [height * width * self.anchors_per_location for height, width in self.level_sizes]

    @cached_property
    def cells(self) -> Cells:
        """Made on the device at the first use."""
        assert self.anchors_per_location == 1
        device = self.centres.device
        # A cached tensor made in inference mode could never be used in training.
        with torch.inference_mode(False):
            positions, sizes, starts, start = [], [], [], 0
            for height, width in self.level_sizes:
                rows = torch.arange(height, device=device)[:, None].expand(height, width)
                columns = torch.arange(width, device=device).expand(height, width)
                positions.append(torch.stack([rows, columns]).flatten(1))
                sides = [torch.full((height * width,), side, device=device) for side in (height, width)]
                sizes.append(torch.stack(sides))
                starts.append(torch.full((height * width,), start, device=device))
                start += height * width
            return Cells(torch.cat(positions, dim=1), torch.cat(sizes, dim=1), torch.cat(starts))

    def split(self, values: Tensor, dim: int = 1) -> tuple[Tensor, ...]:
        """Cut a tensor with all locations along ``dim`` into one per level."""
        return torch.split(values, self.level_counts, dim)


@lru_cache(maxsize=64)
def make_points(
    level_sizes: tuple[tuple[int, int], ...],
    strides: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype,
    shapes: AnchorShapes = SQUARE,
) -> Points:
    """Locations for maps of the given (h, w); one shared object per size, device and dtype.

    Made on the device, so nothing waits for a copy. The cache holds the sizes of late, about 0.6 MB each for a
    full-size image (1.5 with its cells), 5.6 MB with nine anchors at a location.
    """
    # A cached tensor made in inference mode could never be used in training.
    with torch.inference_mode(False):
        centres, steps, anchors = [], [], []
        for (height, width), stride in zip(level_sizes, strides, strict=True):
            rows = torch.arange(height, device=device)[:, None].expand(height, width)
            columns = torch.arange(width, device=device)[None, :].expand(height, width)
            grid = torch.stack([columns, rows], dim=-1).reshape(-1, 1, 2) * stride
            sides = [torch.full((), side, device=device) for pair in shapes.half_sizes(stride) for side in pair]
            half = torch.stack(sides).reshape(-1, 2)
            anchors.append(torch.cat([grid - half, grid + half], dim=-1).flatten(0, 1))
            centres.append(grid.expand(-1, shapes.per_location, -1).flatten(0, 1))
            steps.append(torch.full((centres[-1].shape[0],), stride, device=device, dtype=dtype))
        return Points(
            centres=torch.cat(centres).to(dtype),
            strides=torch.cat(steps),
            anchors=torch.cat(anchors).to(dtype),
            level_sizes=level_sizes,
            anchors_per_location=shapes.per_location,
        )


def fewest_locations(height: int, width: int) -> int:
    """Of an image of these pixels: with one anchor at each."""
    return sum(-(-height // stride) * -(-width // stride) for stride in STRIDES)


def points_of(
    maps: Sequence[Tensor], strides: tuple[int, ...], dtype: torch.dtype, shapes: AnchorShapes = SQUARE
) -> Points:
    """Locations of feature maps (B, C, h, w)."""
    if torch.compiler.is_exporting():  # sizes are symbols then, and what is made of them belongs to the one graph
        symbols = tuple((m.shape[-2], m.shape[-1]) for m in maps)
        return make_points.__wrapped__(symbols, strides, maps[0].device, dtype, shapes)
    sizes = tuple((int(m.shape[-2]), int(m.shape[-1])) for m in maps)
    return make_points(sizes, strides, maps[0].device, dtype, shapes)


def valid_points(points: Points, sizes: Tensor) -> Tensor:
    """(B, N) bool: the locations that lie in an image's own padding to multiples of 32.

    ``sizes`` (B, 2) are the (h, w) of the resized, un-padded images. Locations further out exist only
    because another image of the batch is larger; they take no part in assignment or loss.
    """
    padded = (sizes + (PAD_MULTIPLE - 1)) // PAD_MULTIPLE * PAD_MULTIPLE
    limit = padded.flip(-1).to(points.centres.device)
    return (points.centres[None] < limit[:, None]).all(dim=-1)
