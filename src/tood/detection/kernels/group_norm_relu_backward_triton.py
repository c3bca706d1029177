# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
"""Triton kernels of the gradients of group normalisation with ReLU; see the forward ones."""

import torch
import triton  # type: ignore[import-untyped, import-not-found]
import triton.language as tl  # type: ignore[import-untyped, import-not-found]
from torch import Tensor

from tood.detection.kernels.rows import SIZES, SUMMED, WARPS, WRITTEN, gathering, strides_of, tiles_for


@triton.jit
def output_gradient(
    normal, dy, dslot, weight, bias, row, column, mask, dy_pixel, dslot_pixel, relu: tl.constexpr, twice: tl.constexpr
):
    """The gradient in front of the ReLU, whose input is computed again."""
    gradient = tl.load(dy + row[:, None] * dy_pixel + column[None, :], mask=mask, other=0.0).to(tl.float32)
    if twice:
        gradient += tl.load(dslot + row[:, None] * dslot_pixel + column[None, :], mask=mask, other=0.0).to(tl.float32)
    if relu:
        gradient = tl.where(normal * weight[None, :] + bias[None, :] <= 0, 0.0, gradient)
    return gradient


@triton.jit(do_not_specialize=SIZES)
def chunk_gradients(
    x, dy, dslot, weight, bias, mean, rstd, products, sums, pixels,
    x_image, x_pixel, dy_image, dy_pixel, dslot_image, dslot_pixel,
    channels: tl.constexpr, groups: tl.constexpr, relu: tl.constexpr, twice: tl.constexpr,
    block: tl.constexpr, tile: tl.constexpr, steps: tl.constexpr,
):  # fmt: skip
    """Every chunk's gradients of weight and bias (B, chunks, C)."""
    chunk, image = tl.program_id(0), tl.program_id(1)
    column = tl.program_id(2) * block + tl.arange(0, block)
    inside = column < channels
    group = image * groups + column // (channels // groups)
    centre = tl.load(mean + group, mask=inside, other=0.0)
    scale = tl.load(rstd + group, mask=inside, other=0.0)
    factor = tl.load(weight + column, mask=inside, other=0.0)
    shift = tl.load(bias + column, mask=inside, other=0.0)
    first = chunk * steps * tile
    x += image.to(tl.int64) * x_image + first.to(tl.int64) * x_pixel
    dy += image.to(tl.int64) * dy_image + first.to(tl.int64) * dy_pixel
    if twice:
        dslot += image.to(tl.int64) * dslot_image + first.to(tl.int64) * dslot_pixel
    product = tl.zeros((tile, block), tl.float32)
    total = tl.zeros((tile, block), tl.float32)
    for step in range(steps):
        row = step * tile + tl.arange(0, tile)
        mask = (first + row < pixels)[:, None] & inside[None, :]
        value = tl.load(x + row[:, None] * x_pixel + column[None, :], mask=mask, other=0.0).to(tl.float32)
        normal = (value - centre[None, :]) * scale[None, :]
        gradient = output_gradient(
            normal, dy, dslot, factor, shift, row, column, mask, dy_pixel, dslot_pixel, relu, twice
        )
        product += gradient * normal
        total += gradient
    place = (image * tl.num_programs(0) + chunk) * channels + column
    tl.store(products + place, tl.sum(product, 0), mask=inside)
    tl.store(sums + place, tl.sum(total, 0), mask=inside)


@triton.jit(do_not_specialize=SIZES)
def group_gradients(
    products, sums, weight, weight_gradient, bias_gradient, slope, level, pixels, chunks,
    channels: tl.constexpr, groups: tl.constexpr, rows: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Each image's gradients of weight and bias (B, C), and what its groups' gradients lose (B, groups).

    The input's gradient has neither a mean (``level``) nor a part along the normalised values (``slope``).
    """
    image, group = tl.program_id(0), tl.program_id(1)
    width: tl.constexpr = channels // groups
    column = tl.arange(0, block)
    inside = column < width
    start = image * chunks * channels + group * width
    product = tl.zeros((rows, block), tl.float32)
    total = tl.zeros((rows, block), tl.float32)
    for first in range(0, chunks, rows):
        index = first + tl.arange(0, rows)
        mask = (index < chunks)[:, None] & inside[None, :]
        place = start + index[:, None] * channels + column[None, :]
        product += tl.load(products + place, mask=mask, other=0.0)
        total += tl.load(sums + place, mask=mask, other=0.0)
    of_weight, of_bias = tl.sum(product, 0), tl.sum(total, 0)
    place = image * channels + group * width + column
    tl.store(weight_gradient + place, of_weight, mask=inside)
    tl.store(bias_gradient + place, of_bias, mask=inside)
    factor = tl.load(weight + group * width + column, mask=inside, other=0.0)
    size = pixels * 1.0 * width
    tl.store(slope + image * groups + group, tl.sum(factor * of_weight, 0) / size)
    tl.store(level + image * groups + group, tl.sum(factor * of_bias, 0) / size)


@triton.jit(do_not_specialize=SIZES)
def input_gradient(
    x, dy, dslot, weight, bias, mean, rstd, slope, level, dx, pixels,
    x_image, x_pixel, dy_image, dy_pixel, dslot_image, dslot_pixel,
    channels: tl.constexpr, groups: tl.constexpr, relu: tl.constexpr, twice: tl.constexpr,
    block: tl.constexpr, tile: tl.constexpr, steps: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1)
    column = tl.program_id(2) * block + tl.arange(0, block)
    inside = column < channels
    group = image * groups + column // (channels // groups)
    centre = tl.load(mean + group, mask=inside, other=0.0)
    scale = tl.load(rstd + group, mask=inside, other=0.0)
    along = tl.load(slope + group, mask=inside, other=0.0)
    middle = tl.load(level + group, mask=inside, other=0.0)
    factor = tl.load(weight + column, mask=inside, other=0.0)
    shift = tl.load(bias + column, mask=inside, other=0.0)
    first = tl.program_id(0) * steps * tile
    x += image.to(tl.int64) * x_image + first.to(tl.int64) * x_pixel
    dx += (image.to(tl.int64) * pixels + first) * channels
    dy += image.to(tl.int64) * dy_image + first.to(tl.int64) * dy_pixel
    if twice:
        dslot += image.to(tl.int64) * dslot_image + first.to(tl.int64) * dslot_pixel
    for step in range(steps):
        row = step * tile + tl.arange(0, tile)
        mask = (first + row < pixels)[:, None] & inside[None, :]
        value = tl.load(x + row[:, None] * x_pixel + column[None, :], mask=mask, other=0.0).to(tl.float32)
        normal = (value - centre[None, :]) * scale[None, :]
        gradient = output_gradient(
            normal, dy, dslot, factor, shift, row, column, mask, dy_pixel, dslot_pixel, relu, twice
        )
        found = (gradient * factor[None, :] - middle[None, :] - normal * along[None, :]) * scale[None, :]
        tl.store(dx + row[:, None] * channels + column[None, :], found.to(dx.dtype.element_ty), mask=mask)


def backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    *,
    groups: int,
    relu: bool,
    slot: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The input's gradient, channels-last, and the parameters' (2, C), weight and bias, in float32.

    ``gradient``, ``slot``, which is added to it, and ``x`` have rows.
    """
    images, channels, pixels = len(x), x.shape[1], x.shape[2:].numel()
    tiles = tiles_for(channels)
    sizes = {
        "channels": channels, "groups": groups, "relu": relu, "twice": slot is not None,
        "block": tiles.channels, "tile": tiles.pixels, "num_warps": WARPS,
    }  # fmt: skip
    chunks = tiles.grid(x, SUMMED)[0]
    found = x.new_empty(2, images, chunks, channels, dtype=torch.float32)
    parameters = x.new_empty(2, images, channels, dtype=torch.float32)
    lost = x.new_empty(2, images, groups, dtype=torch.float32)
    dx = torch.empty_like(x, memory_format=torch.channels_last)
    strides = *strides_of(x), *strides_of(gradient), *strides_of(slot)
    with torch.cuda.device_of(x):
        chunk_gradients[tiles.grid(x, SUMMED)](
            x, gradient, slot, weight, bias, *statistics, *found, pixels, *strides, steps=SUMMED, **sizes
        )
        group_gradients[(images, groups)](
            *found, weight, *parameters, *lost, pixels, chunks, channels=channels, groups=groups,
            **gathering(channels // groups),
        )  # fmt: skip
        input_gradient[tiles.grid(x, WRITTEN)](
            x, gradient, slot, weight, bias, *statistics, *lost, dx, pixels, *strides, steps=WRITTEN, **sizes
        )
    return dx, parameters.sum(1)
