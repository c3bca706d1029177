"""Folding a kept normalisation into its convolution changes neither outputs nor gradients nor statistics."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.resnet import BasicBlock, Bottleneck

from tood.config.backbone import BackboneConfig
from tood.detection import folding
from tood.detection.backbones import build_backbone
from tood.detection.deformable import DeformableConv
from tood.detection.folding import conv_norm, folded_once, run_stage


def _shortcut(in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


def _pooled() -> BasicBlock:
    """As the light backbone has it: an average before the projection, on odd sizes too."""
    pool = nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)
    return BasicBlock(16, 8, stride=2, downsample=nn.Sequential(pool, *_shortcut(16, 8, stride=1)))


def _deformable(block: BasicBlock | Bottleneck, *, stride: int = 1, groups: int = 1) -> BasicBlock | Bottleneck:
    plain = block.conv2
    block.conv2 = DeformableConv(plain.in_channels, plain.out_channels, stride=stride, groups=groups)
    return block


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "basic": lambda: BasicBlock(16, 16),
    "basic with shortcut": lambda: BasicBlock(16, 8, stride=2, downsample=_shortcut(16, 8, stride=2)),
    "basic with pooled shortcut": _pooled,
    "bottleneck": lambda: Bottleneck(16, 4),
    "bottleneck with shortcut": lambda: Bottleneck(16, 6, stride=2, downsample=_shortcut(16, 24, stride=2)),
    "grouped": lambda: Bottleneck(16, 4, groups=2, base_width=128),
    "deformable basic": lambda: _deformable(BasicBlock(16, 16)),
    "deformable bottleneck": lambda: _deformable(Bottleneck(16, 4)),
    "deformable with stride and groups": lambda: _deformable(
        Bottleneck(16, 4, stride=2, downsample=_shortcut(16, 16, stride=2), groups=2, base_width=128),
        stride=2,
        groups=2,
    ),
    "two blocks": lambda: nn.Sequential(_pooled(), BasicBlock(8, 8)),
}
every_block = pytest.mark.parametrize("name", BLOCKS)


def used(module: nn.Module) -> nn.Module:
    """With values as after training: no parameter and no statistic keeps its initial one."""
    draw = torch.Generator().manual_seed(4)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values, low, high in (
                (part.weight, 0.5, 1.5),
                (part.bias, -0.5, 0.5),
                (part.running_mean, -0.5, 0.5),
                (part.running_var, 0.5, 2.0),
            ):
                assert values is not None
                nn.init.uniform_(values, low, high, generator=draw)
        if isinstance(part, DeformableConv):
            nn.init.uniform_(part.conv_offset.weight, -0.1, 0.1, generator=draw)
    return module


def stage(name: str) -> nn.Sequential:
    torch.manual_seed(3)
    built = used(BLOCKS[name]())
    return (built if isinstance(built, nn.Sequential) else nn.Sequential(built)).double()


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(4, 16, 15, 22, generator=torch.Generator().manual_seed(5), dtype=dtype)


def gradients(net: nn.Module, run: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradients of the input and of all parameters for some weighted sum of it."""
    x = images().requires_grad_()
    out = run(x)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(6), dtype=out.dtype)
    (out * weights).sum().backward()
    found = {"input": x.grad, **{key: parameter.grad for key, parameter in net.named_parameters()}}
    return out.detach(), {key: value for key, value in found.items() if value is not None}


@every_block
@pytest.mark.parametrize("training", [False, True])
def test_blocks_equal_torchvisions_own_forward(name: str, training: bool) -> None:
    """In training mode with live statistics nothing is folded, and the statistics move as they would."""
    plain, folded = stage(name).train(training), stage(name).train(training)
    expected, expected_gradients = gradients(plain, plain)
    out, found = gradients(folded, lambda x: run_stage(folded, x))
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    assert found.keys() == expected_gradients.keys() == {"input", *dict(plain.named_parameters())}
    for key, value in expected_gradients.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-11, msg=lambda text, key=key: f"{key}: {text}")
        assert value.any(), key
    before = dict(stage(name).named_buffers())
    for (key, ours), theirs in zip(folded.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)
        assert torch.equal(ours, before[key]) != training, key


@every_block
def test_some_normalisations_may_follow_the_batch_while_others_do_not(name: str) -> None:
    plain, folded = stage(name).train(), stage(name).train()
    for net in (plain, folded):
        for index, part in enumerate(part for part in net.modules() if isinstance(part, nn.BatchNorm2d)):
            part.training = index % 2 == 0
    expected, expected_gradients = gradients(plain, plain)
    out, found = gradients(folded, lambda x: run_stage(folded, x))
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found, expected_gradients, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(dict(folded.named_buffers()), dict(plain.named_buffers()))


@every_block
@pytest.mark.parametrize("live", ["none", "some"])
def test_shifts_added_apart_as_on_a_gpu_change_nothing(name: str, live: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a block's last pass, together with its shortcut's; normalisations that follow the batch keep theirs."""
    plain, folded = stage(name).eval(), stage(name).eval()
    for net in (plain, folded):
        for index, part in enumerate(part for part in net.modules() if isinstance(part, nn.BatchNorm2d)):
            part.training = live == "some" and index % 2 == 0
    expected, expected_gradients = gradients(plain, plain)
    passes = []
    monkeypatch.setattr(folding, "_shifts_apart", lambda _: True)
    together = folding.affine_relu
    monkeypatch.setattr(folding, "affine_relu", lambda *inputs: (passes.append(1), together(*inputs))[1])
    out, found = gradients(folded, lambda x: run_stage(folded, x))
    assert passes
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found, expected_gradients, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(dict(folded.named_buffers()), dict(plain.named_buffers()))


@every_block
def test_the_input_is_left_alone(name: str) -> None:
    x = images()
    with torch.no_grad():
        run_stage(stage(name).eval(), x)
    assert torch.equal(x, images())


def test_frozen_parameters_get_no_gradient() -> None:
    net = stage("bottleneck with shortcut").eval().requires_grad_(False)
    x = images().requires_grad_()
    run_stage(net, x).sum().backward()
    assert x.grad is not None
    assert x.grad.any()
    assert all(parameter.grad is None for parameter in net.parameters())


def test_one_convolution_with_its_normalisation() -> None:
    conv, norm = nn.Conv2d(16, 4, 3, stride=2, padding=1, bias=False).double(), used(nn.BatchNorm2d(4)).double().eval()
    torch.testing.assert_close(conv_norm(conv, norm, images()), norm(conv(images())), rtol=1e-11, atol=1e-12)
    tiny = deepcopy(norm)
    nn.init.zeros_(tiny.get_buffer("running_var"))
    torch.testing.assert_close(conv_norm(conv, tiny, images()), tiny(conv(images())), rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("kind", ["resnet18", "resnet50"])
def test_a_backbone_equals_torchvisions_network(kind: str) -> None:
    torch.manual_seed(7)
    network = used(get_model(kind, weights=None)).double().eval()
    backbone = build_backbone(BackboneConfig.model_validate({"name": kind, "kind": kind})).double().eval()
    weights = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    backbone.load_state_dict(weights)
    seen: list[Tensor] = []
    for layer in (network.layer2, network.layer3, network.layer4):
        layer.register_forward_hook(lambda _, __, out: seen.append(out.clone()))
    picture = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    with torch.no_grad():
        network(picture)
        ours = backbone(picture)
    assert [tuple(level.shape[2:]) for level in ours] == [(8, 12), (4, 6), (2, 3)]
    for level, expected in zip(ours, seen, strict=True):
        assert expected.std() > 0.01
        torch.testing.assert_close(level, expected, rtol=1e-8, atol=1e-9 * expected.abs().max().item())


def test_nothing_is_folded_under_autocast() -> None:
    """The shift would be rounded to bf16 before it is added; evaluation in float32 would see another one."""
    net = stage("bottleneck").float().eval()
    x = images(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        torch.testing.assert_close(run_stage(net, x), net(x), rtol=0, atol=0)


@every_block
def test_folded_once_is_folded_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = stage(name).eval()
    with torch.inference_mode():
        expected = run_stage(net, images())
    counted = folding.folded_into
    made: list[int] = []

    def counting(conv: nn.Conv2d, *rest: Any) -> tuple[Tensor, Tensor]:
        found = counted(conv, *rest)
        made.append(found[0].data_ptr())
        return found

    monkeypatch.setattr(folding, "folded_into", counting)
    with folded_once(net), torch.inference_mode():
        assert torch.equal(run_stage(net, images()), expected)
        first, made[:] = list(made), []
        assert torch.equal(run_stage(net, images()), expected)
    assert made == first


def test_weights_may_change_afterwards_and_gradients_are_of_those_that_are_there() -> None:
    net = stage("bottleneck").eval()
    with folded_once(net):
        with torch.no_grad():
            before = run_stage(net, images())
        run_stage(net, images()).sum().backward()
        assert all(parameter.grad is not None for parameter in net.parameters())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5)
        changed = run_stage(net, images())
    assert not torch.equal(changed, before)
    assert not any("_kept_folded" in module.__dict__ for module in net.modules())
