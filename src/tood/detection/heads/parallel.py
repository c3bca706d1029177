"""Two towers side by side, one for each task: the head of ATSS and GFL."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from tood.detection.heads.decoding import BoxKind, decode_boxes
from tood.detection.heads.layers import PRIOR_BIAS, ConvNorm, LevelScales, initialise
from tood.detection.points import STRIDES, points_of
from tood.detection.predictions import Predictions, at_least_float32, flatten_levels


class ParallelHead(nn.Module):
    """``convs`` normalised convolutions per task, then one 3x3 convolution for each output."""

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        width: int,
        convs: int,
        norm_groups: int,
        boxes: BoxKind,
        reg_max: int = 16,
        centerness: bool = False,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.boxes: BoxKind = boxes
        widths = [in_channels] + [width] * convs
        pairs = list(pairwise(widths))
        self.cls_convs = nn.ModuleList(ConvNorm(a, b, groups=norm_groups) for a, b in pairs)
        self.reg_convs = nn.ModuleList(ConvNorm(a, b, groups=norm_groups) for a, b in pairs)
        sides = 4 * (reg_max + 1) if boxes == "bins" else 4
        self.cls = initialise(nn.Conv2d(widths[-1], num_classes, 3, padding=1), std=0.01, bias=PRIOR_BIAS)
        self.reg = initialise(nn.Conv2d(widths[-1], sides, 3, padding=1), std=0.01)
        self.centerness = initialise(nn.Conv2d(widths[-1], 1, 3, padding=1), std=0.01) if centerness else None
        self.scales = LevelScales(len(self.strides))

    def forward(self, features: Sequence[Tensor]) -> Predictions:
        """Predictions from the pyramid, P3 first, each (B, in_channels, h, w)."""
        classes, sides, qualities = [], [], []
        for feature in features:
            cls_feature = reg_feature = feature
            for cls_conv, reg_conv in zip(self.cls_convs, self.reg_convs, strict=True):
                cls_feature, reg_feature = cls_conv(cls_feature), reg_conv(reg_feature)
            classes.append(self.cls(cls_feature))
            sides.append(self.reg(reg_feature))
            if self.centerness is not None:
                qualities.append(self.centerness(reg_feature))
        with torch.autocast(features[0].device.type, enabled=False):
            logits = at_least_float32(flatten_levels(classes))
            raw = at_least_float32(flatten_levels(sides))
            points = points_of(features, self.strides, raw.dtype)
            decoded = decode_boxes(self.boxes, raw, self.scales.per_location(points), points)
            return Predictions(
                points=points,
                class_logits=logits,
                boxes=decoded.boxes,
                quality=at_least_float32(flatten_levels(qualities)).squeeze(2) if qualities else None,
                deltas=decoded.deltas,
                bins=decoded.bins,
            )
