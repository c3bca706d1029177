"""The task-aligned head (TOOD section 3.1): shared tower, task decomposition, prediction alignment."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tood.detection.heads.alignment import align_boxes, alignment_layers, offset_layers
from tood.detection.heads.decoding import decode_boxes
from tood.detection.heads.layers import PRIOR_BIAS, ConvNorm, LevelScales, initialise
from tood.detection.points import STRIDES, points_of
from tood.detection.predictions import AlignmentDetails, Predictions, at_least_float32, flatten_levels


class _Level(NamedTuple):
    """Outputs of the convolutions for one level, all (B, channels, h, w)."""

    classes: Tensor
    sides: Tensor
    alignment: Tensor
    offsets: Tensor


class TaskDecomposition(nn.Module):
    """Weights each stacked layer by an attention and reduces to task-specific features (eq. 2 to 4)."""

    def __init__(self, *, width: int, layers: int, norm_groups: int) -> None:
        super().__init__()
        self.layers = layers
        stacked = width * layers
        hidden = max(1, stacked // (layers * 8))
        self.layer_attention = nn.Sequential(
            initialise(nn.Conv2d(stacked, hidden, 1), std=0.001),
            nn.ReLU(),
            initialise(nn.Conv2d(hidden, layers, 1), std=0.001),
            nn.Sigmoid(),
        )
        self.reduction_conv = ConvNorm(stacked, width, kernel=1, groups=norm_groups)

    def attend(self, averages: Tensor) -> Tensor:
        """Attention (L, B, layers) from the spatial means (L, B, layers * width) of L levels' stacks."""
        attention: Tensor = self.layer_attention(averages.flatten(0, 1)[..., None, None])
        return attention.reshape(*averages.shape[:2], self.layers)

    def forward(self, stacked: Tensor, attention: Tensor) -> Tensor:
        """Features (B, width, h, w) from stacked layers (B, layers * width, h, w) and attention (B, layers).

        Weighting the layers and weighting the kernel of the reduction that follows are the same; the smaller
        of the two is weighted. For large maps that avoids a second copy of all layers.
        """
        conv, activate = self.reduction_conv.conv, self.reduction_conv.activate
        size = stacked.shape[2:]
        if size.numel() < conv.out_channels:
            layers = torch.unflatten(stacked, 1, (self.layers, -1))
            weighted = (layers * attention.to(stacked.dtype)[..., None, None, None]).flatten(1, 2)
            return activate(conv(weighted))
        kernel = torch.unflatten(conv.weight.flatten(1), 1, (self.layers, -1))
        kernel = (kernel * attention[:, None, :, None]).flatten(2)
        reduced = torch.bmm(kernel.to(stacked.dtype), stacked.flatten(2))
        return activate(torch.unflatten(reduced, 2, size))


class TaskAlignedHead(nn.Module):
    """T-head; the ``boxes`` are anchor-free (``distance``) or anchor-based (``delta``)."""

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        width: int,
        convs: int,
        norm_groups: int,
        boxes: Literal["distance", "delta"],
        deformable_convs: int = 0,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.boxes: Literal["distance", "delta"] = boxes
        stacked, hidden = width * convs, max(1, width // 4)
        self.inter_convs = nn.ModuleList(
            ConvNorm(
                in_channels if index == 0 else width, width, groups=norm_groups, deformable=index < deformable_convs
            )
            for index in range(convs)
        )
        self.cls_decomp = TaskDecomposition(width=width, layers=convs, norm_groups=norm_groups)
        self.reg_decomp = TaskDecomposition(width=width, layers=convs, norm_groups=norm_groups)
        self.tood_cls = initialise(nn.Conv2d(width, num_classes, 3, padding=1), std=0.01, bias=PRIOR_BIAS)
        self.tood_reg = initialise(nn.Conv2d(width, 4, 3, padding=1), std=0.01)
        self.cls_prob_module = alignment_layers(stacked, hidden)
        self.reg_offset_module = offset_layers(stacked, hidden)
        self.scales = LevelScales(len(self.strides))

    def forward(self, features: Sequence[Tensor]) -> Predictions:
        """Predictions from the pyramid, P3 first, each (B, in_channels, h, w)."""
        stacks = [self._interact(feature) for feature in features]
        averages = torch.stack([stack.mean(dim=(2, 3)) for stack in stacks])
        cls_attention, reg_attention = self.cls_decomp.attend(averages), self.reg_decomp.attend(averages)
        levels = [
            self._predict(stack, cls_weights, reg_weights)
            for stack, cls_weights, reg_weights in zip(stacks, cls_attention, reg_attention, strict=True)
        ]
        with torch.autocast(features[0].device.type, enabled=False):
            raw = at_least_float32(flatten_levels([level.sides for level in levels]))
            points = points_of(features, self.strides, raw.dtype)
            before = decode_boxes(self.boxes, raw, self.scales.per_location(points), points).boxes
            offsets = tuple(at_least_float32(level.offsets) for level in levels)
            return Predictions(
                points=points,
                class_logits=at_least_float32(flatten_levels([level.classes for level in levels])),
                boxes=align_boxes(before, offsets, points),
                alignment_logits=at_least_float32(flatten_levels([level.alignment for level in levels])).squeeze(2),
                alignment=AlignmentDetails(
                    cls_attention=cls_attention.detach(),
                    reg_attention=reg_attention.detach(),
                    offsets=tuple(offset.detach() for offset in offsets),
                    boxes_before_sampling=before.detach(),
                ),
            )

    def _interact(self, feature: Tensor) -> Tensor:
        """The outputs of all shared layers, one after the other on the channels (eq. 1)."""
        interactive = []
        for conv in self.inter_convs:
            feature = conv(feature)
            interactive.append(feature)
        return torch.cat(interactive, dim=1)

    def _predict(self, stacked: Tensor, cls_attention: Tensor, reg_attention: Tensor) -> _Level:
        return _Level(
            classes=self.tood_cls(self.cls_decomp(stacked, cls_attention)),
            sides=self.tood_reg(self.reg_decomp(stacked, reg_attention)),
            alignment=self.cls_prob_module(stacked),
            offsets=self.reg_offset_module(stacked),
        )
