"""Task-aligned head (T-head; TOOD section 3.1): shared tower, task decomposition, prediction alignment."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tood.detection.heads.alignment import align_boxes, offset_branch, score_branch
from tood.detection.heads.decoding import decode_boxes
from tood.detection.heads.layers import ConvNorm, LevelScales, initialise, score_bias
from tood.detection.kernels.feature_stack import FeatureStack
from tood.detection.points import STRIDES, points_of
from tood.detection.predictions import AlignmentDetails, Predictions, at_least_float32, flatten_levels

_FEW_CELLS = 16


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

    def kernel(self, attention: Tensor) -> Tensor:
        """The reduction's kernel (B, width, layers * width) for an attention (B, layers).

        Weighting this kernel is the same as weighting the layers that it reduces, without a copy of them.
        """
        kernel = torch.unflatten(self.reduction_conv.conv.weight.flatten(1), 1, (self.layers, -1))
        return (kernel * attention[:, None, :, None]).flatten(2)

    def activate(self, reduced: Tensor) -> Tensor:
        """Task-specific features from the reduced layers, both (B, width, h, w)."""
        return self.reduction_conv.activate(reduced)


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
        self.tood_cls = initialise(nn.Conv2d(width, num_classes, 3, padding=1), std=0.01, bias=score_bias())
        self.tood_reg = initialise(nn.Conv2d(width, 4, 3, padding=1), std=0.01)
        self.cls_prob_module = score_branch(stacked, hidden)
        self.reg_offset_module = offset_branch(stacked, hidden)
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
        stack = FeatureStack(len(self.inter_convs))
        for layer in self.inter_convs:
            assert isinstance(layer, ConvNorm)
            assert layer.gn is not None
            feature = stack.normalise(layer.conv(feature), layer.gn)
        return stack.joined()

    def _predict(self, stacked: Tensor, cls_attention: Tensor, reg_attention: Tensor) -> _Level:
        """All layers that read the stack are one product, so that the gradient of this largest tensor is computed once.

        Not on maps of a few cells: group normalisation has so few values there that it magnifies rounding, and
        products of the reference's shapes round as the reference does.
        """
        score, offset = self.cls_prob_module, self.reg_offset_module
        kernels = [
            self.cls_decomp.kernel(cls_attention),
            self.reg_decomp.kernel(reg_attention),
            score.reduce.weight.flatten(1).expand(len(stacked), -1, -1),
            offset.reduce.weight.flatten(1).expand(len(stacked), -1, -1),
        ]
        if stacked.shape[2:].numel() > _FEW_CELLS:
            mixed = mix_channels(torch.cat(kernels, dim=1), stacked)
            parts = mixed.split([kernel.shape[1] for kernel in kernels], dim=1)
        else:
            parts = tuple(mix_channels(kernel, stacked) for kernel in kernels)
        cls_part, reg_part, score_part, offset_part = parts
        return _Level(
            classes=self.tood_cls(self.cls_decomp.activate(cls_part)),
            sides=self.tood_reg(self.reg_decomp.activate(reg_part)),
            alignment=score.finish(score_part),
            offsets=offset.finish(offset_part),
        )


def mix_channels(kernel: Tensor, maps: Tensor) -> Tensor:
    """A 1x1 convolution with a kernel (B, D, C) for each image: (B, C, h, w) -> (B, D, h, w), same layout."""
    kernel = kernel.to(maps.dtype)
    if maps.shape[2:].numel() > _FEW_CELLS and maps.is_contiguous(memory_format=torch.channels_last):
        mixed = torch.bmm(maps.permute(0, 2, 3, 1).flatten(1, 2), kernel.transpose(1, 2))
        return torch.unflatten(mixed, 1, maps.shape[2:]).permute(0, 3, 1, 2)
    return torch.unflatten(torch.bmm(kernel, maps.flatten(2)), 2, maps.shape[2:])
