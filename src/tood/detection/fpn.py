"""Feature pyramid network (FPN; Lin et al. 2017) with P6 and P7 from P5's output, or from C5 as in RetinaNet."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tood.detection.predictions import at_least_float32


class _Conv(nn.Module):
    """A plain convolution behind the key ``conv``, as in the checkpoints of this family."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=kernel // 2)
        nn.init.xavier_uniform_(self.conv.weight)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class FeaturePyramid(nn.Module):
    """C3, C4, C5 in; P3 .. P7 of one width out, without normalisation or activation."""

    def __init__(
        self,
        in_channels: Sequence[int],
        width: int,
        *,
        extra_levels: int = 2,
        extra_levels_from: Literal["p5", "c5"] = "p5",
    ) -> None:
        super().__init__()
        self.extra_levels_from = extra_levels_from
        first = width if extra_levels_from == "p5" else in_channels[-1]
        self.lateral_convs = nn.ModuleList(_Conv(channels, width, 1) for channels in in_channels)
        self.fpn_convs = nn.ModuleList(
            [_Conv(width, width, 3) for _ in in_channels]
            + [_Conv(width if index else first, width, 3, stride=2) for index in range(extra_levels)]
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, width, h, w), finest first."""
        laterals = [conv(feature) for conv, feature in zip(self.lateral_convs, features, strict=True)]
        for index in range(len(laterals) - 1, 0, -1):
            finer = laterals[index - 1]
            laterals[index - 1] = finer + F.interpolate(laterals[index], size=finer.shape[-2:], mode="nearest")
        outputs = [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals, strict=False)]
        # Full precision costs nothing on these tiny maps, and the CPU's bfloat16 convolution (oneDNN, AMX,
        # torch 2.14) leaves weight gradients uninitialised for stride 2 on a map one cell wide.
        with torch.autocast(features[0].device.type, enabled=False):
            coarsest = at_least_float32(outputs[-1] if self.extra_levels_from == "p5" else features[-1])
            for conv in list(self.fpn_convs)[len(laterals) :]:
                coarsest = conv(coarsest)
                outputs.append(coarsest)
        return outputs
