"""Folding of batch normalisation with frozen statistics into the convolutions of residual blocks.

With frozen statistics a batch normalisation is a fixed affine map per channel, so scaling the kernel instead of the
activations gives the same outputs and gradients (of the kernel, and of the normalisation's weight and bias) and
saves two passes over every activation. It is not done where there are fewer activations than kernel elements, nor
under autocast, which would round the shift to half precision before it is added.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.resnet import BasicBlock, Bottleneck


def conv_norm(conv: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(conv(x))``; folded if the statistics are frozen and the kernel is smaller than the activations."""
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, _BatchNorm)
    cells = x.shape[0] * (x.shape[2] // conv.stride[0]) * (x.shape[3] // conv.stride[1])
    halved = torch.is_autocast_enabled(x.device.type)
    if norm.training or halved or cells < conv.weight[0].numel():
        normalised: Tensor = norm(conv(x))
        return normalised
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale = norm.weight * (variance + norm.eps).rsqrt()
    folded: Tensor = conv._conv_forward(x, conv.weight * scale[:, None, None, None], norm.bias - mean * scale)
    return folded


def run_stage(stage: nn.Module, x: Tensor) -> Tensor:
    """All blocks of a stage, one after the other."""
    for block in stage.children():
        assert isinstance(block, BasicBlock | Bottleneck)
        x = _run_block(block, x)
    return x


def _run_block(block: BasicBlock | Bottleneck, x: Tensor) -> Tensor:
    shortcut = x if block.downsample is None else _run_shortcut(block.downsample, x)
    out = torch.relu_(conv_norm(block.conv1, block.bn1, x))
    out = conv_norm(block.conv2, block.bn2, out)
    if isinstance(block, Bottleneck):
        out = conv_norm(block.conv3, block.bn3, torch.relu_(out))
    return torch.relu_(out.add_(shortcut))


def _run_shortcut(layers: nn.Module, x: Tensor) -> Tensor:
    *before, conv, norm = layers.children()
    for layer in before:
        x = layer(x)
    return conv_norm(conv, norm, x)
