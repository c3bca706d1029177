"""A split cut into tiles: each tile becomes an image of its own, with the objects that it shows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tood.config.datasets import TileConfig
from tood.data.columns import Annotations
from tood.data.split_table import SplitTable
from tood.data.tiles import Tiles, tile_starts

LEAST_VISIBLE = 0.3
"""Share of an object's area: a tile that shows less of it, while another shows more, does not have the object."""

_NO_TILE = 0  # ids of tiles begin with 1


def cut_into_tiles(table: SplitTable, tile: TileConfig | None) -> SplitTable:
    """All tiles of a split as its images, with new ids; without ``tile`` the split as it is.

    An object belongs to every tile that shows at least 30 % of it, and to the one that shows most. Its box is
    clipped where the tile cuts it, its area reduced by as much.
    """
    return table if tile is None else _cut(table, tile)[0]


def training_tiles(table: SplitTable, tile: TileConfig | None) -> SplitTable:
    """The tiles of a split that are trained on; without ``tile`` the split as it is.

    These are the tiles with annotations, and at most as many without, evenly spread over the split. A tile that only
    shows a small part of an object, which is a target of a neighbour, is left out: it is no background either.
    """
    if tile is None:
        return table
    every, shows_part = _cut(table, tile)
    annotated = np.isin(every.image_ids, every.annotations.image_ids)
    empty = np.flatnonzero(~annotated & ~shows_part)
    count = min(len(empty), int(annotated.sum()))
    chosen = empty[(2 * np.arange(count) + 1) * len(empty) // max(1, 2 * count)]
    kept = np.sort(np.concatenate([np.flatnonzero(annotated), chosen]))
    used = every.take_images(kept)
    assert used.tiles is not None
    return replace(used, tiles=replace(used.tiles, unused=len(every.image_ids) - len(kept)))


@dataclass(frozen=True, eq=False)
class _Grids:
    """The grids of tiles of I pictures, T tiles in all."""

    first: NDArray[np.int64]
    """(I,) number of a picture's first tile."""
    columns: NDArray[np.int64]
    """(I,) tiles side by side."""
    pictures: NDArray[np.int64]
    """(T,) positions of the pictures."""
    tiles: Tiles


@dataclass(frozen=True, eq=False)
class _Parts:
    """P pairs of an annotation and a tile that it touches, grouped by annotation."""

    annotations: NDArray[np.int64]
    tiles: NDArray[np.int64]


def _cut(table: SplitTable, tile: TileConfig) -> tuple[SplitTable, NDArray[np.bool_]]:
    """The split in tiles, and which tiles (T,) show less of an object than would make it theirs."""
    grids = _grids(table, tile)
    parts = _parts(table, tile, grids)
    shares, annotations = _shown(table, grids, parts)
    kept = (shares >= LEAST_VISIBLE) | _first_largest(shares, parts.annotations)
    shows_part = np.zeros(len(grids.tiles), bool)
    shows_part[parts.tiles[~kept & (shares > 0)]] = True
    images = replace(
        table,
        image_ids=np.arange(1, len(grids.tiles) + 1, dtype=np.int64),
        file_names=table.file_names.take(grids.pictures),
        widths=grids.tiles.windows[:, 2],
        heights=grids.tiles.windows[:, 3],
        annotations=annotations.take(np.flatnonzero(kept)),
        tiles=grids.tiles,
    )
    return images, shows_part


def _grids(table: SplitTable, tile: TileConfig) -> _Grids:
    of_pictures = np.stack([table.widths, table.heights], axis=1)
    starts = {length: tile_starts(length, tile) for length in np.unique(of_pictures).tolist()}
    counts = np.array([[len(starts[length]) for length in size] for size in of_pictures.tolist()]).reshape(-1, 2)
    columns, numbers = counts[:, 0].astype(np.int64), counts.prod(axis=1).astype(np.int64)
    first = np.cumsum(numbers) - numbers
    pictures = np.repeat(np.arange(len(numbers)), numbers)
    picture_sizes = of_pictures[pictures]
    row, column = np.divmod(np.arange(len(pictures)) - first[pictures], columns[pictures])
    corners = np.zeros((len(pictures), 2), np.int64)
    for (width, height), members in _by_size(picture_sizes):
        corners[members] = np.stack([starts[width][column[members]], starts[height][row[members]]], axis=1)
    tiles = Tiles(tile.size, table.image_ids[pictures], corners, picture_sizes)
    return _Grids(first, columns, pictures, tiles)


def _by_size(sizes: NDArray[np.int64]) -> Iterator[tuple[tuple[int, int], NDArray[np.int64]]]:
    """Each (width, height) among ``sizes`` (n,2), with the positions that have it."""
    different, which = np.unique(sizes, axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(which.ravel(), minlength=len(different)))
    parts = np.split(order, ends[:-1])
    yield from zip(different.tolist(), parts, strict=False)  # of no sizes, one empty part


def _parts(table: SplitTable, tile: TileConfig, grids: _Grids) -> _Parts:
    """Where an annotation touches no tile, the nearest is taken; of those without image, the very first."""
    of_image, _, known = table.locate_annotations()
    boxes = table.annotations.boxes
    first, counts = np.zeros((len(boxes), 2), np.int64), np.ones((len(boxes), 2), np.int64)
    belonging = np.flatnonzero(known)
    sizes = np.stack([table.widths, table.heights], axis=1)[of_image[belonging]]
    for size, members in _by_size(sizes):
        here = belonging[members]
        for axis, length in enumerate(size):
            starts = tile_starts(length, tile)
            low, high = boxes[here, axis], boxes[here, axis] + boxes[here, axis + 2]
            begin = np.searchsorted(starts, low - min(length, tile.size), side="right").clip(max=len(starts) - 1)
            first[here, axis] = begin
            counts[here, axis] = np.maximum(1, np.searchsorted(starts, high, side="left") - begin)
    numbers = counts.prod(axis=1)
    annotations = np.repeat(np.arange(len(boxes)), numbers)
    within = np.arange(len(annotations)) - (np.cumsum(numbers) - numbers)[annotations]
    row, column = np.divmod(within, counts[annotations, 0])
    row, column = row + first[annotations, 1], column + first[annotations, 0]
    pictures = of_image[annotations]
    tiles = grids.first[pictures] + row * grids.columns[pictures] + column if len(grids.tiles) else pictures
    return _Parts(annotations, tiles)


def _shown(table: SplitTable, grids: _Grids, parts: _Parts) -> tuple[NDArray[np.float64], Annotations]:
    """The share of each annotation's area in the picture that the tile shows (P,), and the annotation there."""
    every = table.annotations.take(parts.annotations)
    known = table.locate_annotations()[2][parts.annotations]
    if not known.any():
        return np.zeros(len(every)), replace(every, image_ids=np.full(len(every), _NO_TILE))
    tiles = grids.tiles.take(parts.tiles)
    start, sizes = every.boxes[:, :2] - tiles.corners, tiles.windows[:, 2:]
    end = start + every.boxes[:, 2:]
    after = tiles.picture_sizes - tiles.corners  # px of the tile at which the picture ends
    visible = (np.minimum(end, sizes) - np.maximum(start, 0)).clip(min=0).prod(axis=1)
    whole = (np.minimum(end, after) - np.maximum(start, -tiles.corners)).clip(min=0).prod(axis=1)
    shares = np.divide(visible, whole, out=np.zeros_like(visible), where=known & (whole > 0))
    seen = (shares > 0)[:, None]
    cut_before, cut_after = seen & (tiles.corners > 0) & (start < 0), seen & (sizes < after) & (end > sizes)
    start, end = np.where(cut_before, 0, start), np.where(cut_after, sizes, end)
    boxes = np.concatenate([start, np.where(cut_before | cut_after, end - start, every.boxes[:, 2:])], axis=1)
    boxes[~known] = every.boxes[~known]
    shown = replace(
        every,
        image_ids=np.where(known, parts.tiles + 1, _NO_TILE),
        boxes=boxes,
        areas=every.areas * np.where(shares > 0, shares, 1.0),
    )
    return shares, shown


def _first_largest(share: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(P,) whether a share is the first of the largest in its group; equal groups lie side by side."""
    chosen = np.zeros(len(share), bool)
    if len(share):
        starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
        lengths = np.diff(np.r_[starts, len(share)])
        largest = np.flatnonzero(share == np.repeat(np.maximum.reduceat(share, starts), lengths))
        chosen[largest[np.unique(groups[largest], return_index=True)[1]]] = True
    return chosen
