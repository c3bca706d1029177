"""The yardstick of training and inference: torchvision's plain ResNet-50 without its classifier."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import resnet50


def plain_trunk() -> nn.Module:
    """Random weights, batch normalisation in evaluation mode, stem and layer1 without gradient."""
    net = resnet50(weights=None)
    trunk = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4)
    trunk[:5].requires_grad_(False)
    return trunk.eval()


def forward_backward(trunk: nn.Module, images: Tensor) -> Callable[[], None]:
    """A forward and a backward pass, without optimizer."""

    def run() -> None:
        trunk.zero_grad(set_to_none=True)
        trunk(images).sum().backward()

    return run


def forward(trunk: nn.Module, images: Tensor) -> Callable[[], None]:
    """A forward pass without gradient."""

    def run() -> None:
        with torch.inference_mode():
            trunk(images)

    return run
