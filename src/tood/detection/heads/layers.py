"""Layers that heads share: convolution with normalisation, level scales, initialisation."""

import math

import torch
from torch import Tensor, nn

from tood.detection.deformable import DeformableConv
from tood.detection.kernels.group_norm_relu import group_norm_relu
from tood.detection.points import Points

PRIOR_PROBABILITY = 0.01
"""Every score at the beginning of training (Lin et al. 2017)."""
OFFSET_GROUPS = 4
"""Groups of sampling offsets in deformable layers of a head (TOOD's DCN models)."""


class ConvNorm(nn.Module):
    """Convolution without bias, group normalisation, ReLU; without ``groups`` a convolution with bias, ReLU."""

    def __init__(
        self, in_channels: int, channels: int, *, kernel: int = 3, groups: int | None, deformable: bool = False
    ) -> None:
        super().__init__()
        self.conv: nn.Conv2d
        if deformable:
            self.conv = DeformableConv(in_channels, channels, offset_groups=OFFSET_GROUPS)
        else:
            self.conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=groups is None)
        self.gn = None if groups is None else nn.GroupNorm(groups, channels)
        initialise(self.conv, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.conv(x))

    def activate(self, x: Tensor) -> Tensor:
        """What follows the convolution."""
        if self.gn is None:
            return torch.relu_(x)
        return group_norm_relu(x, self.gn.weight, self.gn.bias, groups=self.gn.num_groups, eps=self.gn.eps)


class LevelScale(nn.Module):
    """One learnable factor, initially 1."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))


def score_bias(probability: float = PRIOR_PROBABILITY) -> float:
    """The initial bias of class logits: its sigmoid is ``probability``."""
    return -math.log((1 - probability) / probability)


def initialise(conv: nn.Conv2d, *, std: float, bias: float = 0.0) -> nn.Conv2d:
    """Normal weights and a constant bias, in place."""
    nn.init.normal_(conv.weight, std=std)
    if conv.bias is not None:
        nn.init.constant_(conv.bias, bias)
    return conv


class LevelScales(nn.ModuleList):
    """One learnable factor per level, under the keys ``<level>.scale``."""

    def __init__(self, levels: int) -> None:
        super().__init__(LevelScale() for _ in range(levels))

    def per_location(self, points: Points) -> Tensor:
        """(N, 1) every location's factor."""
        factors = [
            level.get_parameter("scale").expand(count) for level, count in zip(self, points.level_counts, strict=True)
        ]
        return torch.cat(factors)[:, None]
