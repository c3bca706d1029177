"""The complete detector (backbone, feature pyramid, head), and how configurations become detectors and criteria."""

from collections.abc import Callable, Sequence
from typing import assert_never

import torch
from torch import Tensor, nn

from tood.config.backbone import BackboneConfig
from tood.config.method import HeadConfig, MethodConfig, ParallelHeadConfig, TaskAlignedHeadConfig
from tood.detection.backbones import Backbone, build_backbone
from tood.detection.criteria.base import Criterion
from tood.detection.fpn import FeaturePyramid
from tood.detection.heads.parallel import ParallelHead
from tood.detection.heads.task_aligned import TaskAlignedHead
from tood.detection.points import AnchorShapes
from tood.detection.predictions import Predictions

Through = Callable[[Sequence[Tensor]], Sequence[Tensor]]
INNERMOST, OUTERMOST = torch.channels_last, torch.contiguous_format
"""Where the channels of weights and feature maps are in memory."""
_NAMES = {INNERMOST: "innermost", OUTERMOST: "outermost"}


class Detector(nn.Module):
    """Backbone, feature pyramid and head."""

    def __init__(self, *, backbone: Backbone, neck: FeaturePyramid, bbox_head: ParallelHead | TaskAlignedHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.bbox_head = bbox_head
        self._backbone_layout = self._pyramid_layout = OUTERMOST
        self.lay_out(*layouts_on(backbone, torch.device("cpu")))

    def on(self, device: torch.device, *, training: bool = False) -> "Detector":
        """This detector, moved to the device and laid out in memory as inference, or training, is fastest there."""
        self.to(device)
        self.lay_out(*layouts_on(self.backbone, device, training=training))
        return self

    @property
    def layouts(self) -> tuple[str, str]:
        """Where backbone, and neck and head, have their channels in memory: ``innermost`` or ``outermost``."""
        backbone, pyramid = (_NAMES[layout] for layout in (self._backbone_layout, self._pyramid_layout))
        return backbone, pyramid

    def lay_out_as(self, layouts: Sequence[str]) -> None:
        """As another detector's ``layouts`` say."""
        backbone, pyramid = ({name: layout for layout, name in _NAMES.items()}[one] for one in layouts)
        self.lay_out(backbone, pyramid)

    def lay_out(self, backbone: torch.memory_format, pyramid: torch.memory_format) -> None:
        """Keep weights and feature maps of the backbone, and those of neck and head, in these memory layouts."""
        if backbone != self._backbone_layout:
            self.backbone.to(memory_format=backbone)
        if pyramid != self._pyramid_layout:
            self.neck.to(memory_format=pyramid)
            self.bbox_head.to(memory_format=pyramid)
        self._backbone_layout, self._pyramid_layout = backbone, pyramid

    def forward(self, images: Tensor, through: Through | None = None) -> Predictions:
        """Predictions for normalised, padded images (B, 3, H, W); H and W are multiples of 32.

        ``through`` changes the pyramid's features before the head, as some criteria do in training.
        """
        maps = self.backbone(images.contiguous(memory_format=self._backbone_layout))
        features = self.neck([one.contiguous(memory_format=self._pyramid_layout) for one in maps])
        predictions: Predictions = self.bbox_head(features if through is None else through(features))
        return predictions


def layouts_on(
    backbone: Backbone, device: torch.device, *, training: bool = False
) -> tuple[torch.memory_format, torch.memory_format]:
    """The layouts of the backbone, and of neck and head, with which inference, or training, is fastest on the device.

    On GPUs cuDNN searches for seconds at every new input size before the first depthwise convolution with the channels
    innermost (8.5 to 10.5 s a size on an H200, 0.25 s with PyTorch's own kernels, which take them outermost).

    oneDNN takes up to twice as long for the weight gradient of a 3x3 convolution with the channels innermost where a
    CPU has no AVX-512, so there only depthwise convolutions have them so in training (docs/performance.md).
    """
    if device.type == "cuda":
        return OUTERMOST if _has_depthwise(backbone) else INNERMOST, INNERMOST
    innermost = INNERMOST if backbone.channels_last else OUTERMOST
    if training and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        return innermost if _has_depthwise(backbone) else OUTERMOST, OUTERMOST
    return innermost, innermost


def _has_depthwise(backbone: Backbone) -> bool:
    convolutions = (module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    return any(1 < one.groups == one.in_channels for one in convolutions)


def build_detector(
    method: MethodConfig, backbone: BackboneConfig, num_classes: int, *, head_width: int | None = None
) -> Detector:
    """A randomly initialised detector; ``tood.weights.starting_weights`` fills it.

    The head is as wide as the neck unless ``head_width`` says otherwise, as imported ones can be.
    """
    net = build_backbone(backbone)
    return Detector(
        backbone=net,
        neck=FeaturePyramid(net.out_channels, backbone.width, extra_levels_from=method.neck.extra_levels_from),
        bbox_head=build_head(
            method.head,
            num_classes=num_classes,
            in_channels=backbone.width,
            width=head_width or backbone.width,
            norm_groups=backbone.norm_groups,
        ),
    )


def build_head(
    head: HeadConfig, *, num_classes: int, in_channels: int, width: int, norm_groups: int
) -> ParallelHead | TaskAlignedHead:
    match head:
        case TaskAlignedHeadConfig():
            return TaskAlignedHead(
                num_classes=num_classes,
                in_channels=in_channels,
                width=width,
                convs=head.convs,
                norm_groups=norm_groups,
                boxes=head.boxes,
                deformable_convs=head.deformable_convs,
            )
        case ParallelHeadConfig():
            return ParallelHead(
                num_classes=num_classes,
                in_channels=in_channels,
                width=width,
                convs=head.convs,
                norm_groups=norm_groups if head.norm == "group" else None,
                boxes=head.boxes,
                anchors=AnchorShapes(head.anchors.scale, head.anchors.per_octave, head.anchors.ratios),
                delta_stds=head.delta_stds,
                level_scales=head.level_scales,
                reg_max=head.reg_max,
                centerness=head.centerness,
                alignment=head.alignment,
                prior_probability=head.prior_probability,
            )
        case _:
            assert_never(head)


def build_criterion(method: MethodConfig) -> Criterion:
    """The method's criterion, which is its own configuration."""
    assert isinstance(method.criterion, Criterion)
    return method.criterion
