"""Backbones: names, strides, what is frozen."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from tood.config.backbone import BackboneConfig
from tood.detection.backbones import Backbone, build_backbone
from tood.detection.fpn import FeaturePyramid


def backbone(kind: str = "resnet18", **options: object) -> Backbone:
    return build_backbone(BackboneConfig.model_validate({"name": kind, "kind": kind, **options}))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("resnet50", 23_508_032), ("resnet101", 42_500_160), ("resnext101_64x4d", 81_406_272)],
)
def test_parameter_counts_without_classifier(kind: str, expected: int) -> None:
    with torch.device("meta"):
        assert parameters(backbone(kind)) == expected


@pytest.mark.parametrize("kind", ["resnet18", "resnet34", "resnet50", "resnext50_32x4d"])
def test_keys_are_torchvisions(kind: str) -> None:
    with torch.device("meta"):
        expected = {key for key in get_model(kind, weights=None).state_dict() if not key.startswith("fc.")}
        assert set(backbone(kind).state_dict()) == expected


@pytest.mark.parametrize("kind", ["resnet18", "light"])
def test_maps_have_strides_8_16_32(kind: str) -> None:
    net = backbone(kind).eval()
    with torch.no_grad():
        maps = net(torch.randn(1, 3, 64, 96))
    assert [tuple(m.shape[2:]) for m in maps] == [(8, 12), (4, 6), (2, 3)]
    assert tuple(m.shape[1] for m in maps) == net.out_channels


def modes(net: nn.Module) -> dict[str, bool]:
    return {name: m.training for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}


def test_from_scratch_nothing_is_frozen() -> None:
    net = backbone(weights="none").train()
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(modes(net).values())


@pytest.mark.parametrize("kind", ["resnet18", "light"])
def test_from_weights_stem_and_first_stage_are_frozen_and_statistics_kept(kind: str) -> None:
    net = backbone(kind, weights="imagenet")
    for _ in range(2):
        net.train()
        assert net.training
        assert not any(modes(net).values())
    frozen = {name.split(".")[0] for name, p in net.named_parameters() if not p.requires_grad}
    trained = {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}
    assert trained == {"layer2", "layer3", "layer4"}
    affine = dict(net.named_parameters())["layer2.0.bn1.weight"]
    assert affine.requires_grad
    before = {name: b.clone() for name, b in net.named_buffers()}
    net(torch.randn(2, 3, 64, 64))[0].sum().backward()
    assert all(torch.equal(before[name], b) for name, b in net.named_buffers())


@pytest.mark.parametrize("kind", ["resnet18", "light"])
def test_what_is_frozen_stays_so_when_normalisation_is_synchronised(kind: str) -> None:
    def synchronised(**options: object) -> dict[str, bool]:
        net = nn.SyncBatchNorm.convert_sync_batchnorm(backbone(kind, **options)).train()
        found = {name: m.training for name, m in net.named_modules() if isinstance(m, nn.SyncBatchNorm)}
        assert found
        assert modes(net) == {}
        return found

    assert not any(synchronised(weights="imagenet").values())
    partly = synchronised(weights="imagenet", norm="batch")
    assert {name.split(".")[0] for name, training in partly.items() if not training} == {"bn1", "layer1"}
    assert {name.split(".")[0] for name, training in partly.items() if training} == {"layer2", "layer3", "layer4"}


def test_configuration_overrides_the_defaults() -> None:
    net = backbone(weights="imagenet", frozen_stages=0, norm="batch").train()
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(modes(net).values())
    net = backbone(weights="none", frozen_stages=2, norm="batch").train()
    assert [name for name, training in modes(net).items() if training and name.startswith("layer2")] == []
    assert modes(net)["layer3.0.bn1"]
    assert not any(p.requires_grad for p in net.get_submodule("layer2").parameters())


def test_statistics_are_learned_from_scratch() -> None:
    net = backbone("light").train()
    before = net.get_buffer("bn1.running_mean").clone()
    net(torch.randn(2, 3, 64, 64))
    assert not torch.equal(before, net.get_buffer("bn1.running_mean"))


def test_pyramid_counts_parameters_and_levels() -> None:
    pyramid = FeaturePyramid((512, 1024, 2048), 256)
    assert parameters(pyramid) == 3_868_672
    assert "lateral_convs.2.conv.weight" in pyramid.state_dict()
    assert "fpn_convs.4.conv.bias" in pyramid.state_dict()
    small = FeaturePyramid((4, 8, 16), 8)
    maps = small([torch.randn(1, 4, 13, 21), torch.randn(1, 8, 7, 11), torch.randn(1, 16, 4, 6)])
    assert [tuple(m.shape) for m in maps] == [
        (1, 8, 13, 21),
        (1, 8, 7, 11),
        (1, 8, 4, 6),
        (1, 8, 2, 3),
        (1, 8, 1, 2),
    ]


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (1, 4)])
def test_extra_levels_have_sound_gradients_on_tiny_maps_in_bf16(shape: tuple[int, int]) -> None:
    """The CPU's bf16 convolution may return uninitialised weight gradients here (see fpn.py)."""
    pyramid = FeaturePyramid((16, 16, 16), 16)
    maps = [torch.randn(2, 16, shape[0] * scale, shape[1] * scale) for scale in (4, 2, 1)]
    gradients = []
    for bf16 in (False, True):
        for _ in range(3 if bf16 else 1):
            pyramid.zero_grad(set_to_none=True)
            rubbish = [torch.full((size,), float("nan")) for size in (2304, 4096, 8192)]
            del rubbish
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                levels = pyramid(maps)
            (levels[3].float().sum() + levels[4].float().sum()).backward()
            gradients.append([p.grad.clone() for p in pyramid.fpn_convs[3:].parameters() if p.grad is not None])
    for rough in gradients[1:]:
        for exact, value in zip(gradients[0], rough, strict=True):
            torch.testing.assert_close(value, exact, rtol=0.05, atol=0.05 * exact.abs().max().item())
