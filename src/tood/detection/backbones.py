"""Backbones (ResNet, ResNeXt, a light one): images in, C3, C4 and C5 (strides 8, 16, 32) out."""

from collections.abc import Callable, Collection, Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models import resnet

from tood.config.backbone import BackboneConfig
from tood.detection.deformable import DeformableConv
from tood.detection.folding import conv_norm_relu, run_stage

_BUILDERS: dict[str, Callable[[], resnet.ResNet]] = {
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet101": resnet.resnet101,
    "resnext50_32x4d": resnet.resnext50_32x4d,
    "resnext101_32x4d": lambda: resnet.ResNet(resnet.Bottleneck, [3, 4, 23, 3], groups=32, width_per_group=4),
    "resnext101_64x4d": resnet.resnext101_64x4d,
}


class Backbone(nn.Module):
    """Base class of backbones: images (N, 3, H, W) in, C3, C4 and C5 out; the stem and first stages may be frozen.

    Frozen stages have no gradient. With frozen statistics every batch normalisation uses its running
    mean and variance also in training, while its weight and bias stay trainable.
    """

    out_channels: tuple[int, int, int]
    channels_last = False
    """Whether convolutions are fastest with the channels innermost in memory."""

    def __init__(self, *, frozen_stages: int, frozen_statistics: bool) -> None:
        super().__init__()
        self.frozen_stages = frozen_stages
        self.frozen_statistics = frozen_statistics

    def frozen_parts(self) -> list[nn.Module]:
        """The frozen modules, the stem and the first stages; none if no stage is frozen."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def frozen_normalisations(self) -> list[nn.Module]:
        """The batch normalisations, synchronised ones included, whose running statistics never change."""
        parts = [self] if self.frozen_statistics else self.frozen_parts()
        return [module for part in parts for module in part.modules() if isinstance(module, _BatchNorm)]

    def freeze(self) -> None:
        """Turn off the gradient of frozen parts; to be called once the layers exist."""
        for part in self.frozen_parts():
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        for module in self.frozen_normalisations():
            module.training = False
        return self


class StagedBackbone(Backbone):
    """A backbone that is a stem and four stages one after another, of the strides 4, 8, 16 and 32."""

    def stem(self) -> list[nn.Module]:
        raise NotImplementedError

    def stages(self) -> list[nn.Module]:
        raise NotImplementedError

    def frozen_parts(self) -> list[nn.Module]:
        return self.stem() + self.stages()[: self.frozen_stages] if self.frozen_stages > 0 else []

    def enter(self, images: Tensor) -> Tensor:
        """The stem's output."""
        raise NotImplementedError

    def stage_outputs(self, images: Tensor) -> list[Tensor]:
        """C2, C3, C4, C5."""
        outputs = [run_stage(self.stages()[0], self.enter(images))]
        for stage in self.stages()[1:]:
            outputs.append(run_stage(stage, outputs[-1]))
        return outputs

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.stage_outputs(images)[1:]


class ResNetBackbone(StagedBackbone):
    """A torchvision ResNet or ResNeXt without its classifier; the keys of the state dict stay the same."""

    channels_last = True

    def __init__(
        self, kind: str, *, frozen_stages: int, frozen_statistics: bool, deformable: Collection[str] = ()
    ) -> None:
        super().__init__(frozen_stages=frozen_stages, frozen_statistics=frozen_statistics)
        net = _BUILDERS[kind]()
        self.conv1, self.bn1, self.maxpool = net.conv1, net.bn1, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        channels = net.fc.in_features
        self.out_channels = (channels // 4, channels // 2, channels)
        _deform(self.stages(), deformable)
        self.freeze()

    def stem(self) -> list[nn.Module]:
        return [self.conv1, self.bn1]

    def enter(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.maxpool(conv_norm_relu(self.conv1, self.bn1, images))
        return pooled

    def stages(self) -> list[nn.Module]:
        return [self.layer1, self.layer2, self.layer3, self.layer4]


class LightBackbone(StagedBackbone):
    """A small residual backbone for small images on a CPU.

    Not with the channels innermost: there the CPU's 1x1 convolution of stride 2 (oneDNN, torch 2.14) writes
    outside its memory when it has fewer than 16 channels.

    A narrow stem halves the image at once and every stage begins with stride 2, since large maps cost most of
    the time and hardly any accuracy at 128 to 160 pixels. Shortcuts average before they project, so that no
    pixel is skipped. Stage i has ``width`` * 2^(i-1) channels.
    """

    def __init__(
        self, width: int, *, frozen_stages: int, frozen_statistics: bool, deformable: Collection[str] = ()
    ) -> None:
        super().__init__(frozen_stages=frozen_stages, frozen_statistics=frozen_statistics)
        narrow = max(8, width // 2)
        self.conv1 = nn.Conv2d(3, narrow, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.layer1 = _light_stage(narrow, width, blocks=1)
        self.layer2 = _light_stage(width, 2 * width, blocks=2)
        self.layer3 = _light_stage(2 * width, 4 * width, blocks=2)
        self.layer4 = _light_stage(4 * width, 8 * width, blocks=1)
        self.out_channels = (2 * width, 4 * width, 8 * width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        _deform(self.stages(), deformable)
        self.freeze()

    def stem(self) -> list[nn.Module]:
        return [self.conv1, self.bn1]

    def enter(self, images: Tensor) -> Tensor:
        return conv_norm_relu(self.conv1, self.bn1, images)

    def stages(self) -> list[nn.Module]:
        return [self.layer1, self.layer2, self.layer3, self.layer4]


def _light_stage(in_channels: int, channels: int, *, blocks: int) -> nn.Sequential:
    shortcut = nn.Sequential(
        nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
        nn.Conv2d(in_channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )
    first = resnet.BasicBlock(in_channels, channels, stride=2, downsample=shortcut)
    return nn.Sequential(first, *(resnet.BasicBlock(channels, channels) for _ in range(blocks - 1)))


def _deform(stages: Sequence[nn.Module], levels: Collection[str]) -> None:
    """Make the second convolution (the 3x3 one that may carry the stride) of every block in C2 .. C5 deformable."""
    for level, stage in zip(("c2", "c3", "c4", "c5"), stages, strict=True):
        if level not in levels:
            continue
        for block in stage.children():
            plain = block.conv2
            assert isinstance(plain, nn.Conv2d)
            block.conv2 = DeformableConv(
                plain.in_channels, plain.out_channels, stride=plain.stride[0], groups=plain.groups
            )
            nn.init.kaiming_normal_(block.conv2.weight, mode="fan_out", nonlinearity="relu")


def synchronised(model: nn.Module) -> nn.Module:
    """The model with its live batch normalisations synchronised over processes, in place.

    Those with frozen statistics stay as they are, for they may be folded into convolutions.
    """
    for name, norm in [*model.named_modules()]:
        if isinstance(norm, _BatchNorm) and norm.training:
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, _synchronised_norm(norm))
    return model


def _synchronised_norm(norm: _BatchNorm) -> nn.Module:
    if type(norm).__module__.partition(".")[0] == "timm":  # whose normalisations may end with an activation
        from timm.layers.norm_act import convert_sync_batchnorm

        own: nn.Module = convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]
        return own
    plain: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    return plain


def build_backbone(config: BackboneConfig) -> Backbone:
    """The backbone of a configuration, randomly initialised; weights are loaded separately.

    With pretrained weights the stem and stage 1 are frozen and batch statistics are kept, unless the configuration
    says otherwise; from scratch nothing is frozen.
    """
    frozen_stages = config.frozen_stages
    if frozen_stages is None:
        frozen_stages = 1 if config.starts_from_weights else 0
    frozen_statistics = config.frozen_statistics
    if config.kind == "timm":
        from tood.detection.timm_backbone import TimmBackbone  # timm takes 1.5 s to import

        assert config.model is not None
        return TimmBackbone(config.model, frozen_stages=frozen_stages, frozen_statistics=frozen_statistics)
    if config.kind == "light":
        return LightBackbone(
            config.first_stage_width,
            frozen_stages=frozen_stages,
            frozen_statistics=frozen_statistics,
            deformable=config.deformable,
        )
    return ResNetBackbone(
        config.kind,
        frozen_stages=frozen_stages,
        frozen_statistics=frozen_statistics,
        deformable=config.deformable,
    )
