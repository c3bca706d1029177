"""Yardstick for training and inference speed: torchvision's plain ResNet-50 without its classifier."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import resnet50


def plain_backbone() -> nn.Module:
    """Random weights, batch normalisation in evaluation mode, stem and layer1 without gradient."""
    net = resnet50(weights=None)
    backbone = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4)
    backbone[:5].requires_grad_(False)
    return backbone.eval()


def forward_backward(backbone: nn.Module, images: Tensor) -> Callable[[], None]:
    """A forward and a backward pass, without optimizer."""

    def run() -> None:
        backbone.zero_grad(set_to_none=True)
        backbone(images).sum().backward()

    return run


def forward(backbone: nn.Module, images: Tensor) -> Callable[[], None]:
    """A forward pass without gradient."""

    def run() -> None:
        with torch.inference_mode():
            backbone(images)

    return run
