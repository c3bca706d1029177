"""Prediction alignment (TAP; TOOD section 3.1): of scores by an alignment probability, of boxes by sampling offsets."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tood.detection.heads.layers import initialise, score_bias
from tood.detection.points import Points


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

    ``offsets`` are those of :func:`sample_boxes`. Where the sampled box is inverted, the box before sampling stays and
    gets the gradient.
    """
    sampled = sample_boxes(boxes, offsets, points)
    inverted = (sampled[..., 2:] < sampled[..., :2]).any(dim=-1, keepdim=True)
    return torch.where(inverted, boxes, sampled)


def sample_boxes(boxes: Tensor, offsets: Sequence[Tensor], points: Points) -> Tensor:
    """Read every coordinate of boxes (B, N, 4) at its own offset from its cell, bilinearly: same shape out.

    Offsets, per level (B, 8, h, w), are in cells, (dy, dx) for each coordinate in turn; outside its level's map
    everything counts as 0, and an offset that is not a number as none. A 1x1 deformable convolution with weights 1 and
    one group per coordinate is exactly this, in its gradients too. torchvision's is not used, for it launches its
    kernels outside the current CUDA stream: a graph would miss them. All levels are read at once, few kernels.
    """
    axes = [torch.unflatten(level, 1, (4, 2)).permute(2, 0, 3, 4, 1).flatten(2, 3) for level in offsets]
    cells = points.cells
    sizes = cells.sizes[:, None, :, None]
    places = torch.cat(axes, dim=2).nan_to_num() + cells.positions[:, None, :, None]  # (2, B, N, 4)
    # From two cells outside on nothing is read; without a limit, far places would overflow the indices.
    places = torch.minimum(places.clamp(min=-2), sizes + 1.0)
    first = places.detach().floor()
    part_y, part_x = places - first
    corners = first.long() + torch.arange(2, device=boxes.device)[:, None, None, None, None]  # (2, 2, B, N, 4)
    row, column = corners.unbind(1)
    row_inside, column_inside = ((corners >= 0) & (corners < sizes)).unbind(1)
    index = cells.starts[:, None] + row[:, None] * sizes[1] + column
    nothing = boxes.shape[1]
    index = torch.where(row_inside[:, None] & column_inside, index, nothing)  # (2 rows, 2 columns, B, N, 4)
    padded = torch.cat([boxes, torch.zeros_like(boxes[:, :1])], dim=1)
    upper, lower = padded.expand(2, 2, -1, -1, -1).gather(3, index)
    left, right = torch.lerp(upper, lower, part_y)
    return torch.lerp(left, right, part_x)
