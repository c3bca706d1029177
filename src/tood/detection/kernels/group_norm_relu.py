"""Group normalisation followed by a ReLU: the plain formula, and on a GPU one operator of Triton kernels.

Under CUDA's autocast PyTorch's own normalisation casts to float32 and copies to channels-outermost, and the next
convolution casts and copies back: a fifth of a training step of TOOD on an H200. The operator keeps half precision
and the channels innermost in memory and computes in float32.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import group_norm

from tood.detection.kernels.rows import runs_fused, with_rows


def group_norm_relu(
    x: Tensor, weight: Tensor, bias: Tensor, *, groups: int, eps: float = 1e-5, relu: bool = True
) -> Tensor:
    """Maps (B, C, H, W) normalised over groups of channels, then ``weight`` and ``bias`` (C,), then ReLU.

    The output is channels-last if ``x`` has the channels innermost. It has the number format of ``x``, except by the
    plain formula under CUDA's autocast, which gives float32. The operator's gradients of the parameters are float32
    and always the same bits.
    """
    run = fused if runs_fused(x, weight, bias) else plain
    return run(x, weight, bias, groups=groups, eps=eps, relu=relu)


def plain(x: Tensor, weight: Tensor, bias: Tensor, *, groups: int, eps: float, relu: bool) -> Tensor:
    """PyTorch's own operations."""
    normalised = group_norm(x, groups, weight, bias, eps)
    return torch.relu_(normalised) if relu else normalised


def fused(x: Tensor, weight: Tensor, bias: Tensor, *, groups: int, eps: float, relu: bool) -> Tensor:
    """The Triton kernels, forward and backward; see ``runs_fused`` for what they take."""
    y: Tensor = _forward(x, weight, bias, groups, eps, relu)[0]
    return y


@torch.library.custom_op("tood::group_norm_relu", mutates_args=())
def _forward(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, relu: bool) -> tuple[Tensor, Tensor]:
    """The output, and the groups' means and inverse standard deviations (2, B, groups) in float32."""
    from tood.detection.kernels.group_norm_relu_triton import forward

    return forward(x, weight, bias, groups=groups, eps=eps, relu=relu)


@_forward.register_fake
def _forward_sizes(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, relu: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.channels_last), x.new_empty(2, len(x), groups, dtype=torch.float32)


@torch.library.custom_op("tood::group_norm_relu_backward", mutates_args=())
def gradients(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    groups: int,
    relu: bool,
    more: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The gradients of ``x`` and of the parameters (2, C); the output's is ``gradient`` or, if given, ``+ more``."""
    from tood.detection.kernels.group_norm_relu_backward_triton import backward

    slot = None if more is None else with_rows(more)
    return backward(with_rows(gradient), x, weight, bias, statistics, groups=groups, relu=relu, slot=slot)


@gradients.register_fake
def _gradient_sizes(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    statistics: Tensor,
    groups: int,
    relu: bool,
    more: Tensor | None,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.channels_last), x.new_empty(2, x.shape[1], dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, ctx.groups, _, ctx.relu = inputs
    ctx.save_for_backward(x, weight, bias, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    dx, parameters = gradients(gradient, *ctx.saved_tensors, ctx.groups, ctx.relu, None)
    return dx, parameters[0], parameters[1], None, None, None


_forward.register_autograd(_backward, setup_context=_keep)
