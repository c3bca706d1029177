"""Parallel head: two towers of convolutions, one for each task, as in RetinaNet, FCOS, ATSS and GFL."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from tood.detection.boxes import DELTA_STDS, DeltaStds
from tood.detection.heads.alignment import align_boxes, offset_branch, score_branch
from tood.detection.heads.decoding import BoxKind, decode_boxes
from tood.detection.heads.layers import PRIOR_PROBABILITY, ConvNorm, LevelScales, initialise, score_bias
from tood.detection.points import SQUARE, STRIDES, AnchorShapes, points_of
from tood.detection.predictions import Predictions, at_least_float32, flatten_levels


class ParallelHead(nn.Module):
    """``convs`` convolutions per task, then one 3x3 convolution for each output.

    Without ``norm_groups`` the towers have no normalisation. With ``alignment`` the last layers of both towers
    together predict how scores and boxes are aligned (TAP).
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        width: int,
        convs: int,
        norm_groups: int | None,
        boxes: BoxKind,
        anchors: AnchorShapes = SQUARE,
        delta_stds: DeltaStds = DELTA_STDS,
        level_scales: bool = True,
        reg_max: int = 16,
        centerness: bool = False,
        alignment: bool = False,
        prior_probability: float = PRIOR_PROBABILITY,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.boxes: BoxKind = boxes
        self.anchors = anchors
        self.delta_stds = delta_stds
        widths = [in_channels] + [width] * convs
        pairs = list(pairwise(widths))
        self.cls_convs = nn.ModuleList(ConvNorm(a, b, groups=norm_groups) for a, b in pairs)
        self.reg_convs = nn.ModuleList(ConvNorm(a, b, groups=norm_groups) for a, b in pairs)
        count = anchors.per_location
        sides = 4 * (reg_max + 1) if boxes == "bins" else 4
        self.cls = initialise(
            nn.Conv2d(width, count * num_classes, 3, padding=1), std=0.01, bias=score_bias(prior_probability)
        )
        self.reg = initialise(nn.Conv2d(width, count * sides, 3, padding=1), std=0.01)
        self.centerness = initialise(nn.Conv2d(width, 1, 3, padding=1), std=0.01) if centerness else None
        self.cls_prob_module = score_branch(2 * width, max(1, width // 4)) if alignment else None
        self.reg_offset_module = offset_branch(2 * width, max(1, width // 4)) if alignment else None
        self.scales = LevelScales(len(self.strides)) if level_scales else None

    def forward(self, features: Sequence[Tensor]) -> Predictions:
        """Predictions from the pyramid, P3 first, each (B, in_channels, h, w)."""
        classes, sides, qualities, alignments, offsets = [], [], [], [], []
        for feature in features:
            cls_feature = reg_feature = feature
            for cls_conv, reg_conv in zip(self.cls_convs, self.reg_convs, strict=True):
                cls_feature, reg_feature = cls_conv(cls_feature), reg_conv(reg_feature)
            classes.append(self.cls(cls_feature))
            sides.append(self.reg(reg_feature))
            if self.centerness is not None:
                qualities.append(self.centerness(reg_feature))
            if self.cls_prob_module is not None and self.reg_offset_module is not None:
                both = torch.cat([cls_feature, reg_feature], dim=1)
                alignments.append(self.cls_prob_module(both))
                offsets.append(self.reg_offset_module(both))
        with torch.autocast(features[0].device.type, enabled=False):
            count = self.anchors.per_location
            raw = at_least_float32(flatten_levels(sides, count))
            points = points_of(features, self.strides, raw.dtype, self.anchors)
            scale = None if self.scales is None else self.scales.per_location(points)
            decoded = decode_boxes(self.boxes, raw, scale, points, self.delta_stds)
            boxes = decoded.boxes
            if offsets:
                boxes = align_boxes(boxes, [at_least_float32(offset) for offset in offsets], points)
            return Predictions(
                points=points,
                class_logits=at_least_float32(flatten_levels(classes, count)),
                boxes=boxes,
                alignment_logits=_one_per_location(alignments),
                quality=_one_per_location(qualities),
                deltas=decoded.deltas,
                delta_stds=None if decoded.deltas is None else self.delta_stds,
                bins=decoded.bins,
            )


def _one_per_location(maps: Sequence[Tensor]) -> Tensor | None:
    """Maps (B, 1, h, w) -> (B, N); None without any."""
    return at_least_float32(flatten_levels(maps)).squeeze(2) if maps else None
