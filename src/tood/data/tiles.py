"""Tiles: overlapping parts of equal size that cover a picture."""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from tood.config.datasets import TileConfig


@dataclass(frozen=True, eq=False)
class Tiles:
    """The T images of a split as tiles of pictures; those of a picture follow one another, row by row."""

    size: int
    """Side px as configured; a tile is smaller where its picture is."""
    picture_ids: NDArray[np.int64]
    """(T,) of the picture that each is part of."""
    corners: NDArray[np.int64]
    """(T,2) left and top px in the picture."""
    picture_sizes: NDArray[np.int64]
    """(T,2) width and height px of the picture."""
    unused: int = 0
    """Tiles without objects that training leaves out."""

    def __len__(self) -> int:
        return len(self.picture_ids)

    @property
    def pictures(self) -> int:
        """How many pictures the tiles are part of."""
        return len(np.unique(self.picture_ids))

    @property
    def windows(self) -> NDArray[np.int64]:
        """(T,4) left, top, width and height px in the picture."""
        return np.concatenate([self.corners, np.minimum(self.picture_sizes, self.size)], axis=1)

    def take(self, positions: NDArray[np.intp]) -> "Tiles":
        """The tiles at ``positions``, in that order."""
        columns = {name: getattr(self, name)[positions] for name in ("picture_ids", "corners", "picture_sizes")}
        return replace(self, **columns)


def in_tiles(tile: TileConfig | None) -> str:
    """What to say after "in 5 images of val"; nothing without tiles."""
    return "" if tile is None else f", in tiles of {tile.size} px"


def tile_starts(length: int, tile: TileConfig) -> NDArray[np.int64]:
    """Where the tiles of a side of ``length`` px begin, ascending and evenly spread.

    They are as few as overlap by ``tile.overlap`` at least. One tile is enough for what is not longer than a tile.
    """
    if length <= tile.size:
        return np.zeros(1, np.int64)
    step = tile.size - ceil(tile.overlap * tile.size)
    last = -(-(length - tile.size) // step)
    starts: NDArray[np.int64] = np.arange(last + 1, dtype=np.int64) * (length - tile.size) // last
    return starts


def tile_windows(width: int, height: int, tile: TileConfig) -> NDArray[np.int64]:
    """(T,4) left, top, width and height px of the tiles of a picture, row by row; all have the same size."""
    columns, rows = tile_starts(width, tile), tile_starts(height, tile)
    corners = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    sides = np.minimum([width, height], tile.size)
    return np.concatenate([corners, np.broadcast_to(sides, corners.shape)], axis=1).astype(np.int64)
