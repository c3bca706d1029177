"""Prediction alignment (TAP; TOOD section 3.1): of scores by an alignment probability, of boxes by sampling offsets."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from tood.detection.heads.layers import initialise, score_bias
from tood.detection.points import Points
from tood.detection.predictions import flatten_levels


class AlignmentBranch(nn.Sequential):
    """1x1 convolution, ReLU, 3x3 convolution: from features of both tasks to one of the two alignment maps."""

    def __init__(self, in_channels: int, hidden: int, channels: int, *, std: float, bias: float = 0.0) -> None:
        super().__init__(
            initialise(nn.Conv2d(in_channels, hidden, 1), std=std),
            nn.ReLU(),
            initialise(nn.Conv2d(hidden, channels, 3, padding=1), std=std, bias=bias),
        )

    @property
    def reduce(self) -> nn.Conv2d:
        """The 1x1 convolution, for heads that compute it together with others."""
        conv = self[0]
        assert isinstance(conv, nn.Conv2d)
        return conv

    def finish(self, reduced: Tensor) -> Tensor:
        """The rest, from what the 1x1 convolution gives without its bias."""
        assert self.reduce.bias is not None
        finished: Tensor = self[2](self[1](reduced + self.reduce.bias[:, None, None]))
        return finished


def score_branch(in_channels: int, hidden: int) -> AlignmentBranch:
    """M of eq. 8: (B, in_channels, h, w) -> (B, 1, h, w) logits."""
    return AlignmentBranch(in_channels, hidden, 1, std=0.01, bias=score_bias())


def offset_branch(in_channels: int, hidden: int) -> AlignmentBranch:
    """O of eq. 9: (B, in_channels, h, w) -> (B, 8, h, w) offsets in cells."""
    return AlignmentBranch(in_channels, hidden, 8, std=0.001)


def align_boxes(boxes: Tensor, offsets: Sequence[Tensor], points: Points) -> Tensor:
    """Move each side of each box to where the offsets point (eq. 9): (B, N, 4) pixels, same shape out.

    Where the sampled box is inverted, the box before sampling stays and gets the gradient.
    """
    sampled = flatten_levels(
        [
            sample_boxes(torch.unflatten(level.transpose(1, 2), 2, size), offset)
            for level, size, offset in zip(points.split(boxes), points.level_sizes, offsets, strict=True)
        ]
    )
    inverted = (sampled[..., 2:] < sampled[..., :2]).any(dim=-1, keepdim=True)
    return torch.where(inverted, boxes, sampled)


def sample_boxes(boxes: Tensor, offsets: Tensor) -> Tensor:
    """Read every coordinate of a box map (B, 4, h, w) at its own offset (B, 8, h, w), bilinearly.

    Offsets are in cells, (dy, dx) for each coordinate in turn; outside the map counts as 0. A 1x1
    deformable convolution with weights 1 and one group per coordinate is exactly this.
    """
    # The CPU kernel reads outside its memory where an offset is not a number, as in a training that diverges.
    sampled: Tensor = deform_conv2d(boxes, offsets.nan_to_num(), boxes.new_ones(4, 1, 1, 1))
    return sampled
