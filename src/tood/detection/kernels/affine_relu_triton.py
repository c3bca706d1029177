# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""Triton kernels of scale, shift, residual and ReLU; imported where they run, for Triton may be missing.

Maps (B, C, H, W) are B*H*W rows of C channels in memory. All arithmetic is in float32. Gradients of a channel are
summed by each program for its rows, and then over the programs: equal inputs give equal bits.
"""

import torch
import triton  # type: ignore[import-untyped, import-not-found]
import triton.language as tl  # type: ignore[import-untyped, import-not-found]
from torch import Tensor

from tood.detection.kernels.rows import SIZES, WARPS, WRITTEN, tiles_for

_PROGRAMS = 512
"""At most so many programs share the rows of a sum, on every GPU."""


@triton.jit(do_not_specialize=SIZES)
def affine(
    x, scale, shift, residual, y, pixels,
    channels: tl.constexpr, scaled: tl.constexpr, added: tl.constexpr, relu: tl.constexpr,
    block: tl.constexpr, tile: tl.constexpr, steps: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = column < channels
    offset = tl.load(shift + column, mask=inside, other=0.0)
    if scaled:
        factor = tl.load(scale + column, mask=inside, other=0.0)
    first = tl.program_id(0).to(tl.int64) * steps * tile
    for step in range(steps):
        row = first + step * tile + tl.arange(0, tile)
        mask = (row < pixels)[:, None] & inside[None, :]
        place = row[:, None] * channels + column[None, :]
        out = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
        if scaled:
            out *= factor[None, :]
        out += offset[None, :]
        if added:
            out += tl.load(residual + place, mask=mask, other=0.0).to(tl.float32)
        if relu:
            out = tl.where(out < 0, 0.0, out)  # keeps NaN, as PyTorch does
        tl.store(y + place, out.to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=SIZES)
def affine_gradients(
    gradient, y, x, scale, shift_sums, scale_sums, dx, dresidual, pixels, chunks,
    channels: tl.constexpr, scaled: tl.constexpr, added: tl.constexpr, relu: tl.constexpr,
    block: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    """The gradients of the maps, and every program's sums (programs, C); each takes ``chunks`` tiles."""
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = column < channels
    if scaled:
        factor = tl.load(scale + column, mask=inside, other=0.0)
    first = tl.program_id(0).to(tl.int64) * chunks * tile
    total = tl.zeros((tile, block), tl.float32)
    product = tl.zeros((tile, block), tl.float32)
    for step in range(chunks):
        row = first + step * tile + tl.arange(0, tile)
        mask = (row < pixels)[:, None] & inside[None, :]
        place = row[:, None] * channels + column[None, :]
        found = tl.load(gradient + place, mask=mask, other=0.0).to(tl.float32)
        if relu:
            found = tl.where(tl.load(y + place, mask=mask, other=0.0) <= 0, 0.0, found)
        total += found
        if added:
            tl.store(dresidual + place, found.to(dresidual.dtype.element_ty), mask=mask)
        if scaled:
            product += found * tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
            found *= factor[None, :]
        tl.store(dx + place, found.to(dx.dtype.element_ty), mask=mask)
    place = tl.program_id(0) * channels + column
    tl.store(shift_sums + place, tl.sum(total, 0), mask=inside)
    if scaled:
        tl.store(scale_sums + place, tl.sum(product, 0), mask=inside)


def forward(x: Tensor, scale: Tensor | None, shift: Tensor, residual: Tensor | None, *, relu: bool) -> Tensor:
    """The output; all maps are channels-last."""
    channels, pixels = x.shape[1], x.numel() // x.shape[1]
    tiles = tiles_for(channels)
    grid = triton.cdiv(pixels, WRITTEN * tiles.pixels), triton.cdiv(channels, tiles.channels)
    y = torch.empty_like(x, memory_format=torch.channels_last)
    with torch.cuda.device_of(x):
        affine[grid](
            x, scale, shift, residual, y, pixels, channels=channels, scaled=scale is not None,
            added=residual is not None, relu=relu, block=tiles.channels, tile=tiles.pixels, steps=WRITTEN,
            num_warps=WARPS,
        )  # fmt: skip
    return y


def backward(
    gradient: Tensor, y: Tensor | None, x: Tensor | None, scale: Tensor | None, *, residual: bool
) -> list[Tensor]:
    """As ``affine_relu`` says of the operator; all maps are channels-last."""
    channels, pixels = gradient.shape[1], gradient.numel() // gradient.shape[1]
    tiles = tiles_for(channels)
    count = triton.cdiv(pixels, tiles.pixels)
    steps = triton.cdiv(count, _PROGRAMS)
    programs = triton.cdiv(count, steps)
    sums = gradient.new_empty(1 if scale is None else 2, programs, channels, dtype=torch.float32)
    dx = torch.empty_like(gradient, memory_format=torch.channels_last)
    dresidual = (
        torch.empty_like(gradient, memory_format=torch.channels_last) if residual and scale is not None else None
    )
    with torch.cuda.device_of(gradient):
        affine_gradients[programs, triton.cdiv(channels, tiles.channels)](
            gradient, y, x, scale, sums[0], None if scale is None else sums[1], dx, dresidual, pixels, steps,
            channels=channels, scaled=scale is not None, added=dresidual is not None, relu=y is not None,
            block=tiles.channels, tile=tiles.pixels, num_warps=WARPS,
        )  # fmt: skip
    return [sums.sum(1), dx] if dresidual is None else [sums.sum(1), dx, dresidual]
