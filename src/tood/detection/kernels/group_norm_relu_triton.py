# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""Triton kernels of group normalisation with ReLU, forward; imported where they run, for Triton may be missing.

Maps (B, C, H, W) lie in memory as B x H*W rows of C channels. A pass that sums takes the pixels of an image in chunks
and every chunk writes what it found, which a small second pass puts together in a fixed order: equal inputs give
equal bits, which sums by atomic additions do not. All arithmetic is in float32.
"""

import torch
import triton  # type: ignore[import-untyped, import-not-found]
import triton.language as tl  # type: ignore[import-untyped, import-not-found]
from torch import Tensor

from tood.detection.kernels.rows import SIZES, SUMMED, WARPS, WRITTEN, gathering, strides_of, tiles_for


@triton.jit(do_not_specialize=SIZES)
def chunk_moments(
    x, means, squares, pixels, x_image, x_pixel,
    channels: tl.constexpr, block: tl.constexpr, tile: tl.constexpr, steps: tl.constexpr,
):  # fmt: skip
    """Every chunk's mean and sum of squared deviations (B, chunks, C) for each channel.

    Deviations from the chunk's first pixel are summed, so that a mean far from zero costs no digits.
    """
    chunk, image = tl.program_id(0), tl.program_id(1)
    column = tl.program_id(2) * block + tl.arange(0, block)
    inside = column < channels
    first = chunk * steps * tile
    x += image.to(tl.int64) * x_image + first.to(tl.int64) * x_pixel
    shift = tl.load(x + column, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((tile, block), tl.float32)
    square = tl.zeros((tile, block), tl.float32)
    for step in range(steps):
        row = step * tile + tl.arange(0, tile)
        mask = (first + row < pixels)[:, None] & inside[None, :]
        value = tl.load(x + row[:, None] * x_pixel + column[None, :], mask=mask, other=0.0).to(tl.float32)
        delta = tl.where(mask, value - shift[None, :], 0.0)
        total += delta
        square += delta * delta
    count = tl.minimum(pixels - first, steps * tile) * 1.0
    sums = tl.sum(total, 0)
    place = (image * tl.num_programs(0) + chunk) * channels + column
    tl.store(means + place, shift + sums / count, mask=inside)
    tl.store(squares + place, tl.maximum(tl.sum(square, 0) - sums * sums / count, 0.0), mask=inside)


@triton.jit(do_not_specialize=SIZES)
def group_statistics(
    means, squares, mean, rstd, pixels, chunks, eps,
    channels: tl.constexpr, groups: tl.constexpr, chunk_pixels: tl.constexpr, rows: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Mean and inverse standard deviation (B, groups) from the moments of chunks and channels."""
    image, group = tl.program_id(0), tl.program_id(1)
    width: tl.constexpr = channels // groups
    column = tl.arange(0, block)
    start = image * chunks * channels + group * width
    size = pixels * 1.0 * width
    total = tl.zeros((rows, block), tl.float32)
    for first in range(0, chunks, rows):
        index = first + tl.arange(0, rows)
        mask = (index < chunks)[:, None] & (column < width)[None, :]
        count = tl.minimum(pixels - index * chunk_pixels, chunk_pixels).to(tl.float32)[:, None]
        total += count * tl.load(means + start + index[:, None] * channels + column[None, :], mask=mask, other=0.0)
    middle = tl.sum(tl.sum(total, 1), 0) / size
    spread = tl.zeros((rows, block), tl.float32)
    for first in range(0, chunks, rows):
        index = first + tl.arange(0, rows)
        mask = (index < chunks)[:, None] & (column < width)[None, :]
        place = start + index[:, None] * channels + column[None, :]
        count = tl.minimum(pixels - index * chunk_pixels, chunk_pixels).to(tl.float32)[:, None]
        delta = tl.load(means + place, mask=mask, other=0.0) - middle
        spread += tl.where(mask, tl.load(squares + place, mask=mask, other=0.0) + count * delta * delta, 0.0)
    place = image * groups + group
    tl.store(mean + place, middle)
    tl.store(rstd + place, tl.rsqrt(tl.sum(tl.sum(spread, 1), 0) / size + eps))


@triton.jit(do_not_specialize=SIZES)
def normalise(
    x, weight, bias, mean, rstd, y, slot, pixels, x_image, x_pixel, slot_image, slot_pixel,
    channels: tl.constexpr, groups: tl.constexpr, relu: tl.constexpr, twice: tl.constexpr,
    block: tl.constexpr, tile: tl.constexpr, steps: tl.constexpr,
):  # fmt: skip
    """The output, written into ``y`` and, if ``twice``, into ``slot`` too."""
    image = tl.program_id(1)
    column = tl.program_id(2) * block + tl.arange(0, block)
    inside = column < channels
    group = image * groups + column // (channels // groups)
    centre = tl.load(mean + group, mask=inside, other=0.0)
    scale = tl.load(rstd + group, mask=inside, other=0.0)
    factor = tl.load(weight + column, mask=inside, other=0.0)
    shift = tl.load(bias + column, mask=inside, other=0.0)
    first = tl.program_id(0) * steps * tile
    x += image.to(tl.int64) * x_image + first.to(tl.int64) * x_pixel
    y += (image.to(tl.int64) * pixels + first) * channels
    if twice:
        slot += image.to(tl.int64) * slot_image + first.to(tl.int64) * slot_pixel
    for step in range(steps):
        row = step * tile + tl.arange(0, tile)
        mask = (first + row < pixels)[:, None] & inside[None, :]
        value = tl.load(x + row[:, None] * x_pixel + column[None, :], mask=mask, other=0.0).to(tl.float32)
        out = (value - centre[None, :]) * scale[None, :] * factor[None, :] + shift[None, :]
        if relu:
            out = tl.where(out < 0, 0.0, out)  # keeps NaN, as PyTorch does
        out = out.to(y.dtype.element_ty)
        tl.store(y + row[:, None] * channels + column[None, :], out, mask=mask)
        if twice:
            tl.store(slot + row[:, None] * slot_pixel + column[None, :], out, mask=mask)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, *, groups: int, eps: float, relu: bool, slot: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The output, also written into ``slot``, and the groups' means and inverse deviations (2, B, groups) in float32.

    ``x`` and ``slot`` have rows (``rows_of``); the output is channels-last.
    """
    images, channels, pixels = len(x), x.shape[1], x.shape[2:].numel()
    tiles = tiles_for(channels)
    sizes = {"channels": channels, "block": tiles.channels, "tile": tiles.pixels, "num_warps": WARPS}
    chunks = tiles.grid(x, SUMMED)[0]
    moments = x.new_empty(2, images, chunks, channels, dtype=torch.float32)
    statistics = x.new_empty(2, images, groups, dtype=torch.float32)
    y = torch.empty_like(x, memory_format=torch.channels_last)
    with torch.cuda.device_of(x):
        chunk_moments[tiles.grid(x, SUMMED)](x, *moments, pixels, *strides_of(x), steps=SUMMED, **sizes)
        group_statistics[(images, groups)](
            *moments, *statistics, pixels, chunks, eps, channels=channels, groups=groups,
            chunk_pixels=SUMMED * tiles.pixels, **gathering(channels // groups),
        )  # fmt: skip
        normalise[tiles.grid(x, WRITTEN)](
            x, weight, bias, *statistics, y, slot, pixels, *strides_of(x), *strides_of(slot), groups=groups, relu=relu,
            twice=slot is not None, steps=WRITTEN, **sizes,
        )  # fmt: skip
    return y, statistics
