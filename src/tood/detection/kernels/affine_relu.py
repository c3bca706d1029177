"""Scale and shift for each channel, a residual and a ReLU: what follows a convolution of a residual block.

A batch normalisation with kept statistics is such a scale and shift. Under autocast neither may be rounded to half
precision before it is applied, which is why the normalisation is not folded into the convolution there; this one
pass over the maps computes in float32 whatever the maps have. The scale may as well be folded into the kernel, in
float32: without one, the maps in front are not kept for the backward pass.
"""

from typing import Any

import torch
from torch import Tensor

from tood.detection.kernels.rows import runs_fused
from tood.detection.predictions import at_least_float32


def affine_relu(
    x: Tensor, scale: Tensor | None, shift: Tensor, residual: Tensor | None = None, *, relu: bool = True
) -> Tensor:
    """``x * scale + shift + residual`` and its ReLU for maps ``x`` and ``residual`` (B, C, H, W), the others (C,).

    The output has the layout and number format of ``x``; the arithmetic is at least float32. The gradients of scale
    and shift are float32, and always the same bits.
    """
    parameters = (shift,) if scale is None else (scale, shift)
    maps = [x] if residual is None else [x, residual]
    fits = runs_fused(x, *parameters) and all(_like(x, one) for one in maps)
    return (fused if fits else plain)(x, scale, shift, residual, relu=relu)


def _like(x: Tensor, maps: Tensor) -> bool:
    same = maps.shape == x.shape and maps.dtype == x.dtype and maps.device == x.device
    return same and maps.is_contiguous(memory_format=torch.channels_last)


def plain(x: Tensor, scale: Tensor | None, shift: Tensor, residual: Tensor | None, *, relu: bool) -> Tensor:
    """PyTorch's own operations."""
    out = at_least_float32(x)
    if scale is not None:
        out = out * scale[:, None, None]
    out = out + shift[:, None, None]
    if residual is not None:
        out = out + residual
    return (torch.relu(out) if relu else out).to(x.dtype)


def fused(x: Tensor, scale: Tensor | None, shift: Tensor, residual: Tensor | None, *, relu: bool) -> Tensor:
    """The Triton kernels, forward and backward; see ``runs_fused`` for what they take."""
    y: Tensor = _forward(x, scale, shift, residual, relu)
    return y


@torch.library.custom_op("tood::affine_relu", mutates_args=())
def _forward(x: Tensor, scale: Tensor | None, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    from tood.detection.kernels.affine_relu_triton import forward

    return forward(x, scale, shift, residual, relu=relu)


@_forward.register_fake
def _forward_size(x: Tensor, scale: Tensor | None, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


@torch.library.custom_op("tood::affine_relu_backward", mutates_args=())
def _gradients(
    gradient: Tensor, y: Tensor | None, x: Tensor | None, scale: Tensor | None, residual: bool
) -> list[Tensor]:
    """The gradients of shift and scale (1 or 2, C), of ``x``, and of a ``residual`` where it differs from that.

    ``y`` is given if there was a ReLU, ``x`` and ``scale`` if there was a scale.
    """
    from tood.detection.kernels.affine_relu_triton import backward

    gradient = gradient.contiguous(memory_format=torch.channels_last)
    return backward(gradient, y, x, scale, residual=residual)


@_gradients.register_fake
def _gradient_sizes(
    gradient: Tensor, y: Tensor | None, x: Tensor | None, scale: Tensor | None, residual: bool
) -> list[Tensor]:
    maps = torch.empty_like(gradient, memory_format=torch.channels_last)
    sums = gradient.new_empty(1 if scale is None else 2, gradient.shape[1], dtype=torch.float32)
    return [sums, maps, torch.empty_like(maps)] if scale is not None and residual else [sums, maps]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale, _, residual, relu = inputs
    ctx.residual = residual is not None
    ctx.save_for_backward(output if relu else None, None if scale is None else x, scale)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    y, x, scale = ctx.saved_tensors
    if y is None and scale is None:
        return gradient, None, gradient.sum((0, 2, 3), dtype=torch.float32), gradient if ctx.residual else None, None
    sums, dx, *others = _gradients(gradient, y, x, scale, ctx.residual)
    residual = (others or [dx])[0] if ctx.residual else None
    return dx, None if scale is None else sums[1], sums[0], residual, None


_forward.register_autograd(_backward, setup_context=_keep)
