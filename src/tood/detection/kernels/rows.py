"""Which feature maps the Triton kernels take, and how they walk through them."""

import math
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

HAS_TRITON = find_spec("triton") is not None
"""PyTorch's builds for CPUs come without it."""
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def runs_fused(x: Tensor, *parameters: Tensor) -> bool:
    """Whether a Triton kernel takes the maps ``x`` (B, C, H, W) with these parameters per channel.

    It does on a GPU, with the channels innermost (``rows_of``), in float32 or in the half precision that autocast
    leaves; the parameters are float32. Everything else runs by the plain formula.
    """
    return (
        HAS_TRITON
        and x.is_cuda
        and x.dtype in _DTYPES
        and x.dim() == 4
        and x.numel() > 0
        and rows_of(x) is not None
        and all(one.is_cuda and one.dtype == torch.float32 and one.is_contiguous() for one in parameters)
    )


class Rows(NamedTuple):
    """Maps (B, C, H, W) as rows of channels, one row for each pixel: elements from image to image, row to row."""

    image: int
    pixel: int


def rows_of(maps: Tensor) -> Rows | None:
    """The maps' rows; None if the channels are not innermost or the pixels not evenly spaced.

    A range of the channels of channels-last maps has rows too, and so has one value repeated for all pixels.
    """
    _, channels, height, width = maps.shape
    image, channel, line, pixel = maps.stride()
    if channels > 1 and channel != 1:
        return None
    if width == 1:
        return Rows(image, line)
    return Rows(image, pixel) if height == 1 or line == width * pixel else None


def strides_of(maps: Tensor | None) -> Rows:
    """The rows of maps that have them, for a kernel's arguments."""
    if maps is None:
        return Rows(0, 0)
    rows = rows_of(maps)
    assert rows is not None
    return rows


def with_rows(maps: Tensor) -> Tensor:
    """The maps themselves, or a channels-last copy if they have no rows."""
    return maps if rows_of(maps) is not None else maps.contiguous(memory_format=torch.channels_last)


SUMMED = 8
"""Tiles of a chunk, which writes its sums: 3 % of the bytes that it reads of 256 channels in half precision."""
WRITTEN = 4
"""Tiles that a program writes, for which it loads the values of its channels once."""
WARPS = 8
SIZES = ("pixels", "chunks")
"""Arguments that differ from level to level, for none of which a kernel is compiled anew."""
_TILE = 4096
"""Elements of a tile: 16 for each of the 256 threads of ``WARPS``, two loads of 16 bytes in half precision."""
_WIDEST = 256
_GATHERED = 1024
"""Values of chunks that are put together at once."""


class Tiles(NamedTuple):
    """How programs share maps: each takes so many channels, and so many pixels at a time."""

    channels: int
    pixels: int

    def grid(self, x: Tensor, steps: int) -> tuple[int, int, int]:
        """Programs that each take ``steps`` tiles of an image of ``x`` (B, C, H, W)."""
        images, channels, *sides = x.shape
        return -(-math.prod(sides) // (steps * self.pixels)), images, -(-channels // self.channels)


def tiles_for(channels: int) -> Tiles:
    """Powers of two, as Triton wants them."""
    block = min(_power_of_two(channels), _WIDEST)
    return Tiles(block, _TILE // block)


def gathering(width: int) -> dict[str, int]:
    """How many chunks a pass over them takes at once, and the block of a group's ``width`` channels."""
    block = _power_of_two(width)
    return {"rows": max(1, _GATHERED // block), "block": block}


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
