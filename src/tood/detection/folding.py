"""Folding of batch normalisation with frozen statistics into the convolutions of residual blocks.

With frozen statistics a batch normalisation is a fixed affine map per channel, so scaling the kernel instead of the
activations gives the same outputs and gradients (of the kernel, and of the normalisation's weight and bias) and
saves two passes over every activation. It is not done where there are fewer activations than kernel elements, nor
under autocast, which would round the shift to half precision before it is added. On a GPU the scale is folded under
autocast too, but the shift is added in float32, by the kernel that also takes the block's sum and ReLU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.resnet import BasicBlock, Bottleneck

from tood.detection.kernels.affine_relu import affine_relu
from tood.detection.kernels.rows import runs_fused


def conv_norm(conv: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(conv(x))``; folded if the statistics are frozen and the kernel is smaller than the activations."""
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, _BatchNorm)
    cells = x.shape[0] * (x.shape[2] // conv.stride[0]) * (x.shape[3] // conv.stride[1])
    halved = torch.is_autocast_enabled(x.device.type)
    if norm.training or halved or cells < conv.weight[0].numel():
        normalised: Tensor = norm(conv(x))
        return normalised
    folded: Tensor = conv._conv_forward(x, *folded_into(conv, norm))
    return folded


def conv_norm_relu(conv: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """``relu(norm(conv(x)))``."""
    return _activate(_conv_scale(conv, norm, x))


def run_stage(stage: nn.Module, x: Tensor) -> Tensor:
    """All blocks of a stage, one after the other."""
    for block in stage.children():
        assert isinstance(block, BasicBlock | Bottleneck)
        x = _run_block(block, x)
    return x


def _run_block(block: BasicBlock | Bottleneck, x: Tensor) -> Tensor:
    shortcut = _Shifted(x, None) if block.downsample is None else _run_shortcut(block.downsample, x)
    out = conv_norm_relu(block.conv1, block.bn1, x)
    if isinstance(block, Bottleneck):
        out = conv_norm_relu(block.conv2, block.bn2, out)
        return _activate(_conv_scale(block.conv3, block.bn3, out), shortcut)
    return _activate(_conv_scale(block.conv2, block.bn2, out), shortcut)


class _Shifted(NamedTuple):
    """Maps, and for each channel what is still to be added to them."""

    maps: Tensor
    shift: Tensor | None


def _run_shortcut(layers: nn.Module, x: Tensor) -> _Shifted:
    *before, conv, norm = layers.children()
    for layer in before:
        x = layer(x)
    return _conv_scale(conv, norm, x)


def _conv_scale(conv: nn.Module, norm: nn.Module, x: Tensor) -> _Shifted:
    """``norm(conv(x))``; on a GPU under autocast its shift is left to the block's last pass."""
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, _BatchNorm)
    if norm.training or not _shifts_apart(x):
        return _Shifted(conv_norm(conv, norm, x), None)
    kernel, shift = folded_into(conv, norm, _autocast_type(x))
    return _Shifted(conv._conv_forward(x, kernel, None), shift)


def _shifts_apart(x: Tensor) -> bool:
    """Only where a fused kernel adds them: on a GPU, with the channels innermost."""
    return runs_fused(x) and torch.is_autocast_enabled("cuda")


def _autocast_type(x: Tensor) -> torch.dtype | None:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _activate(x: _Shifted, shortcut: _Shifted | None = None) -> Tensor:
    """The ReLU of the maps, or of the sum of both."""
    residual = None if shortcut is None else shortcut.maps
    shifts = [one.shift for one in (x, shortcut) if one is not None and one.shift is not None]
    if shifts:
        return affine_relu(x.maps, None, reduce(torch.add, shifts), residual)
    return torch.relu_(x.maps if residual is None else x.maps.add_(residual))


def folded_into(conv: nn.Conv2d, norm: _BatchNorm, kernel_type: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """The kernel and the shift (C,) of a convolution and the normalisation with frozen statistics behind it.

    The kernel is rounded to ``kernel_type``, as autocast would do it. Both are those of an earlier call inside of
    ``keep_folded``.
    """
    kept: dict[torch.dtype | None, tuple[Tensor, Tensor]] | None = conv.__dict__.get(_KEPT)
    if kept is not None and not torch.is_grad_enabled() and kernel_type in kept:
        return kept[kernel_type]
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale: Tensor = norm.weight * (variance + norm.eps).rsqrt()
    shift = norm.bias - mean * scale if conv.bias is None else norm.bias + (conv.bias - mean) * scale
    found = (conv.weight * scale[:, None, None, None]).to(kernel_type or conv.weight.dtype), shift
    if kept is not None and not torch.is_grad_enabled():
        kept[kernel_type] = found
    return found


_KEPT = "_kept_folded"


def keep_folded(detector: nn.Module) -> None:
    """Fold each convolution once from now on where no gradients are computed: its weights must not change or move."""
    for module in detector.modules():
        if isinstance(module, nn.Conv2d):
            module.__dict__[_KEPT] = {}


def forget_folded(detector: nn.Module) -> None:
    """Fold at each call again; weights may change."""
    for module in detector.modules():
        module.__dict__.pop(_KEPT, None)


@contextmanager
def folded_once(detector: nn.Module) -> Iterator[None]:
    """The weights must not change or move inside of the context."""
    keep_folded(detector)
    try:
        yield
    finally:
        forget_folded(detector)
