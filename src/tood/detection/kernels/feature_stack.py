"""The outputs of normalised layers one after the other on the channels, as T-head's tasks read them.

On a GPU each normalisation writes its output a second time, at its place in the stack, and adds up the gradients of
both uses while it reads them: neither a concatenation nor sums of gradients pass through the largest maps of a head.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tood.detection.kernels.group_norm_relu import gradients, group_norm_relu
from tood.detection.kernels.rows import runs_fused


class FeatureStack:
    """Normalises the maps of ``layers`` layers in turn, all (B, C, H, W), and joins them: (B, layers * C, H, W)."""

    def __init__(self, layers: int) -> None:
        self._layers = layers
        self._outputs: list[Tensor] = []
        self._places: list[Tensor] = []
        self._memory: Tensor | None = None

    def normalise(self, x: Tensor, norm: nn.GroupNorm) -> Tensor:
        """The normalisation and the ReLU of the next layer."""
        y: Tensor
        channels = slice(len(self._outputs) * x.shape[1], (len(self._outputs) + 1) * x.shape[1])
        if runs_fused(x, norm.weight, norm.bias):
            if self._memory is None:
                shape = len(x), self._layers * x.shape[1], *x.shape[2:]
                self._memory = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
            place = self._memory[:, channels]
            y, token = _Twice.apply(x, norm.weight, norm.bias, place, norm.num_groups, norm.eps)
            self._places.append(token)
        else:
            y = group_norm_relu(x, norm.weight, norm.bias, groups=norm.num_groups, eps=norm.eps)
        self._outputs.append(y)
        return y

    def joined(self) -> Tensor:
        """The stack, once every layer is in it."""
        assert len(self._outputs) == self._layers
        if self._memory is None or len(self._places) < self._layers:
            return torch.cat(self._outputs, dim=1)
        joined: Tensor = _Joined.apply(self._memory, *self._places)
        return joined


@torch.library.custom_op("tood::group_norm_relu_into", mutates_args={"place"})
def write_twice(
    x: Tensor, weight: Tensor, bias: Tensor, place: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor]:
    """``group_norm_relu`` and its statistics; the output is written into ``place``, some channels of maps, too."""
    from tood.detection.kernels.group_norm_relu_triton import forward

    return forward(x, weight, bias, groups=groups, eps=eps, relu=True, slot=place)


@write_twice.register_fake
def _sizes(x: Tensor, weight: Tensor, bias: Tensor, place: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.channels_last), x.new_empty(2, len(x), groups, dtype=torch.float32)


class _Twice(torch.autograd.Function):
    """The output, and a token of its shape, without values, that stands for what was written into the stack."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, place: Tensor, groups: int, eps: float
    ) -> tuple[Tensor, Tensor]:
        y, statistics = write_twice(x, weight, bias, place, groups, eps)
        ctx.save_for_backward(x, weight, bias, statistics)
        ctx.groups = groups
        ctx.set_materialize_grads(False)
        return y, torch.empty_strided(y.shape, [0] * 4, dtype=y.dtype, device=y.device)

    @staticmethod
    def backward(ctx: Any, *found: Tensor | None) -> tuple[Tensor | None, ...]:
        one, *more = [gradient for gradient in found if gradient is not None]
        dx, parameters = gradients(one, *ctx.saved_tensors, ctx.groups, True, more[0] if more else None)
        return dx, parameters[0], parameters[1], None, None, None


class _Joined(torch.autograd.Function):
    """The stack's memory, whose gradient goes to the tokens of what was written there."""

    @staticmethod
    def forward(ctx: Any, memory: Tensor, *tokens: Tensor) -> Tensor:
        ctx.channels = tokens[0].shape[1]
        return memory.view_as(memory)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *gradient.split(ctx.channels, dim=1)
