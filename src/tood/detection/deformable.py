"""Modulated deformable convolution (DCNv2; Zhu et al. 2019)."""

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from tood.detection.predictions import at_least_float32

KERNEL = 3


class DeformableConv(nn.Conv2d):
    """A 3x3 convolution without bias that predicts, for each cell, where and how strongly to sample.

    ``conv_offset`` (initially 0) gives 3 * 9 channels for each offset group: the first two thirds are offsets
    in cells, (dy, dx) for each kernel point, the last third logits of the weights. Computed in at least
    float32: half precision cannot place samples on large maps.
    """

    def __init__(
        self, in_channels: int, channels: int, *, stride: int = 1, groups: int = 1, offset_groups: int = 1
    ) -> None:
        super().__init__(in_channels, channels, KERNEL, stride=stride, padding=1, groups=groups, bias=False)
        predicted = 3 * KERNEL * KERNEL * offset_groups
        self.conv_offset = nn.Conv2d(in_channels, predicted, KERNEL, stride=stride, padding=1)
        nn.init.zeros_(self.conv_offset.weight)
        assert self.conv_offset.bias is not None
        nn.init.zeros_(self.conv_offset.bias)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution with the given weight and bias: what ``nn.Conv2d`` calls in its forward pass."""
        with torch.autocast(x.device.type, enabled=False):
            x = at_least_float32(x)
            predicted = self.conv_offset(x)
            offset, mask = predicted.split(predicted.shape[1] // 3 * 2, dim=1)
            # The CPU kernel reads outside its memory where an offset is not a number.
            sampled: Tensor = deform_conv2d(
                x,
                offset.nan_to_num(),
                weight,
                bias,
                stride=(self.stride[0], self.stride[1]),
                padding=(1, 1),
                mask=mask.sigmoid(),
            )
            return sampled


def captures_in_graph(detector: nn.Module) -> bool:
    """Whether a CUDA graph can capture the detector's passes: it cannot with deformable convolutions.

    torchvision launches their kernels on the default stream, whatever stream is current. A graph misses them and
    replays what they last wrote.
    """
    return not any(isinstance(part, DeformableConv) for part in detector.modules())
