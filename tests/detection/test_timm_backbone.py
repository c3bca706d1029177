"""Backbones of timm: the same outputs and gradients as timm's own, what is frozen, and what is refused."""

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tood.config.backbone import BackboneConfig
from tood.detection import timm_backbone
from tood.detection.backbones import build_backbone, synchronised
from tood.detection.timm_backbone import TimmBackbone
from tood.io.errors import UserError
from tood.training.processes import distributed
from tood.training.processes.distributed import Group

LITE = "tf_efficientnet_lite0"
MODELS = {LITE: 48, "resnet18": 20, "mobilenetv3_small_050": 34, "regnetx_002": 44}
"""With the number of their batch normalisations, each of which follows a convolution."""
every_model = pytest.mark.parametrize("model", MODELS)
Levels = list[Tensor]


@cache
def _built(model: str, frozen_stages: int, frozen_statistics: bool) -> TimmBackbone:
    torch.manual_seed(3)
    backbone = TimmBackbone(model, frozen_stages=frozen_stages, frozen_statistics=frozen_statistics)
    return used(backbone)


def built(model: str = LITE, *, frozen_stages: int = 0, frozen_statistics: bool = True) -> TimmBackbone:
    """A copy of its own for each caller."""
    return deepcopy(_built(model, frozen_stages, frozen_statistics))


def used(net: Any) -> Any:
    """With statistics and affine parameters as after training."""
    draw = torch.Generator().manual_seed(4)
    for part in net.modules():
        if isinstance(part, _BatchNorm):
            for values, low, high in (
                (part.weight, 0.5, 1.5),
                (part.bias, -0.5, 0.5),
                (part.running_mean, -0.5, 0.5),
                (part.running_var, 0.5, 2.0),
            ):
                assert values is not None
                nn.init.uniform_(values, low, high, generator=draw)
    return net


def timms_own(backbone: TimmBackbone, model: str) -> nn.Module:
    """timm's feature extractor of the same model with the same values; its keys have to be those behind ``net.``."""
    net = timm.create_model(model, features_only=True, out_indices=_indices(model))
    state = {key.removeprefix("net."): value for key, value in backbone.state_dict().items()}
    assert all(key.startswith("net.") for key in backbone.state_dict())
    net.load_state_dict(state)
    return net


@cache
def _indices(model: str) -> tuple[int, ...]:
    with torch.device("meta"):
        strides = timm.create_model(model, features_only=True).feature_info.reduction()
    return tuple(strides.index(stride) for stride in (8, 16, 32))


def picture() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def normalisations(net: nn.Module) -> dict[str, _BatchNorm]:
    return {name: part for name, part in net.named_modules() if isinstance(part, _BatchNorm)}


def gradients(net: nn.Module) -> tuple[Levels, dict[str, Tensor]]:
    """Maps, and gradients of the picture and of every parameter for some weighted sum of them."""
    x = picture().requires_grad_()
    maps = net(x)
    draw = torch.Generator().manual_seed(6)
    sum((one * torch.randn(one.shape, generator=draw, dtype=one.dtype)).sum() for one in maps).backward()
    found = {"picture": x.grad, **{name.removeprefix("net."): p.grad for name, p in net.named_parameters()}}
    return [one.detach() for one in maps], {name: value for name, value in found.items() if value is not None}


def test_maps_are_counted_as_the_model_counts_them() -> None:
    """dla's first feature has the number 1."""
    net = TimmBackbone("dla46x_c", frozen_stages=1, frozen_statistics=True).eval()
    with torch.no_grad():
        maps = net(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (channels, 64 // stride, 96 // stride) for channels, stride in zip(net.out_channels, (8, 16, 32), strict=True)
    ]


@every_model
def test_folding_changes_neither_maps_nor_gradients_nor_keys(model: str) -> None:
    folded = built(model).double().train()
    plain = timms_own(folded, model).double().eval()
    kept = normalisations(folded)
    assert len(kept) == MODELS[model]
    assert all(type(norm).__name__.startswith("_Folded") for norm in kept.values())
    expected, expected_gradients = gradients(plain)
    maps, found = gradients(folded)
    assert [tuple(one.shape) for one in maps] == [
        (2, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(folded.out_channels, (8, 16, 32), strict=True)
    ]
    for one, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
    assert found.keys() == expected_gradients.keys() == {"picture", *dict(plain.named_parameters())}
    for name, value in expected_gradients.items():
        torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-8 * value.abs().max().item(), msg=name)
        assert value.any(), name


def test_nothing_is_folded_under_autocast() -> None:
    """The shift would be rounded to bf16 before it is added; evaluation in float32 would see another one."""
    folded = built("resnet18").eval()
    plain = timms_own(folded, "resnet18").eval()
    x = picture().float()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert all(torch.equal(one, other) for one, other in zip(folded(x), plain(x), strict=True))


def test_a_copy_applies_normalisations_of_its_own() -> None:
    """As of the detector whose weights are averaged."""
    net = built().eval()
    with torch.no_grad():
        before = net(picture().float())
        other = deepcopy(net)
        for norm in normalisations(other).values():
            norm.bias.add_(1.0)
        assert all(torch.equal(one, now) for one, now in zip(before, net(picture().float()), strict=True))
        assert not any(torch.equal(one, now) for one, now in zip(before, other(picture().float()), strict=True))


@pytest.mark.parametrize(
    ("model", "stages"),
    [(LITE, 1), (LITE, 2), (LITE, 3), ("resnet18", 1), ("regnetx_002", 2), ("mobilenetv3_small_050", 1)],
)
def test_frozen_is_exactly_what_leads_to_the_stages_map(model: str, stages: int) -> None:
    net = timm.create_model(model, features_only=True)
    strides = net.feature_info.reduction()
    net(picture().float())[strides.index(2 ** (stages + 1))].sum().backward()
    before = {f"net.{name}" for name, parameter in net.named_parameters() if parameter.grad is not None}
    frozen = built(model, frozen_stages=stages)
    assert {name for name, parameter in frozen.named_parameters() if not parameter.requires_grad} == before
    assert 0 < len(before) < len(list(frozen.parameters()))


def test_kept_statistics_stay_through_a_step_and_whatever_the_mode() -> None:
    net = built(frozen_stages=1)
    before = {name: value.clone() for name, value in net.named_buffers()}
    fixed = {name: value.detach().clone() for name, value in net.named_parameters() if not value.requires_grad}
    optimiser = torch.optim.SGD([value for value in net.parameters() if value.requires_grad], lr=0.1)
    for mode in (True, False, True):
        net.train(mode)
        assert net.training is mode
        assert not any(norm.training for norm in normalisations(net).values())
    net(picture().float())[2].sum().backward()
    optimiser.step()
    assert all(torch.equal(before[name], value) for name, value in net.named_buffers())
    parameters = dict(net.named_parameters())
    assert all(torch.equal(value, parameters[name]) for name, value in fixed.items())
    trained = normalisations(net)["net.blocks.2.0.bn1"]
    assert not torch.equal(trained.weight, normalisations(built(frozen_stages=1))["net.blocks.2.0.bn1"].weight)


def live(**options: object) -> nn.Module:
    fields = {"name": "x", "kind": "timm", "model": LITE, "weights": "packaged", "norm": "batch", **options}
    return build_backbone(BackboneConfig.model_validate(fields))


def test_norm_batch_leaves_the_statistics_of_later_stages_live() -> None:
    net = live().train()
    modes = {name: norm.training for name, norm in normalisations(net).items()}
    frozen = {name for name, training in modes.items() if not training}
    assert {name.split(".")[2] if "blocks" in name else name for name in frozen} == {"net.bn1", "0", "1"}
    before = {name: norm.running_mean.clone() for name, norm in normalisations(net).items()}
    net(picture().float())
    moved = {name for name, norm in normalisations(net).items() if not torch.equal(norm.running_mean, before[name])}
    assert moved == set(modes) - frozen


def test_defaults_depend_on_weights() -> None:
    from_weights, from_scratch = live(norm=None).train(), live(norm=None, weights="none").train()
    assert not any(norm.training for norm in normalisations(from_weights).values())
    assert any(not parameter.requires_grad for parameter in from_weights.parameters())
    assert all(norm.training for norm in normalisations(from_scratch).values())
    assert all(parameter.requires_grad for parameter in from_scratch.parameters())


def test_synchronised_normalisations_keep_their_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with frozen statistics are left alone; the group of several GPUs wraps the model so."""
    monkeypatch.setattr(distributed, "DistributedDataParallel", lambda model, **_: model)
    net = used(live()).train()
    expected = deepcopy(net)
    wrapped = Group(rank=0, world=2, device=torch.device("cuda", 0)).wrap(net)
    assert list(wrapped.state_dict()) == list(expected.state_dict())
    for name, norm in normalisations(expected).items():
        assert isinstance(wrapped.get_submodule(name), nn.SyncBatchNorm) == norm.training, name
    with torch.no_grad():
        maps, same = wrapped.eval()(picture().float()), expected.eval()(picture().float())
    for one, other in zip(maps, same, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert not any(norm.training for norm in normalisations(wrapped).values())
    folded = built()
    assert synchronised(folded.train()) is folded
    assert not any(isinstance(norm, nn.SyncBatchNorm) for norm in normalisations(folded).values())


class _Toy(nn.Module):
    """Convolutions whose outputs are used besides their normalisations: as a map, changed in place, and twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ModuleList(nn.Conv2d(3, 3, 3, stride=2, padding=1) for _ in range(5))
        self.norm = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(5))
        self.act = nn.ReLU(inplace=True)
        self.feature_info = _ToyInfo()

    def forward(self, x: Tensor) -> Levels:
        x = self.conv[0](x)
        x = self.norm[0](x)
        x = self.norm[1](self.act(self.conv[1](x)))
        c3 = self.conv[2](x)
        x = self.conv[3](self.norm[2](c3))
        c4 = self.norm[3](x) + x
        return [c3, c4, self.norm[4](self.conv[4](c4))]


class _ToyInfo:
    out_indices = (0, 1, 2)

    def reduction(self) -> list[int]:
        return [8, 16, 32]

    def channels(self) -> list[int]:
        return [3, 3, 3]


def test_convolutions_whose_outputs_are_used_otherwise_too_are_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_backbone, "_extractor", lambda *_: _Toy())
    folded = used(TimmBackbone("toy", frozen_stages=0, frozen_statistics=True)).eval()
    kinds = [type(part).__name__ for part in folded.net.norm]
    assert kinds == ["_FoldedNorm", "BatchNorm2d", "BatchNorm2d", "BatchNorm2d", "_FoldedNorm"]
    plain = _Toy()
    plain.load_state_dict(folded.net.state_dict())
    with torch.no_grad():
        for one, other in zip(folded(picture().float()), plain.eval()(picture().float()), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("tf_efficientnet_lite_0", "did you mean 'tf_efficientnet_lite0'"),
        ("vit_tiny_patch16_224", "strides 16, 16"),
        ("swin_tiny_patch4_window7_224", "swin_tiny_patch4_window7_224"),
        ("tf_efficientnet_lite0.no_such_tag", "tf_efficientnet_lite0.no_such_tag"),
        ("inception_v3", "does not take images of any size"),
    ],
)
def test_models_that_give_no_such_maps_are_refused(model: str, said: str) -> None:
    with pytest.raises(UserError, match=r"^backbone\.model: ") as caught:
        TimmBackbone(model, frozen_stages=0, frozen_statistics=True)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_stages_that_cannot_be_told_apart_cannot_be_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy's map of stride 16 is made outside its layers, and it has none of stride 4."""
    monkeypatch.setattr(timm_backbone, "_extractor", lambda *_: _Toy())
    for stages in (1, 3):
        with pytest.raises(UserError, match=r"^backbone\.frozen_stages: .*'toy'"):
            TimmBackbone("toy", frozen_stages=stages, frozen_statistics=True)
    frozen = TimmBackbone("toy", frozen_stages=2, frozen_statistics=True)
    names = {name.rpartition(".")[0] for name, one in frozen.named_parameters() if not one.requires_grad}
    assert names == {
        f"net.{kind}.{number}" for kind, number in (("conv", 0), ("norm", 0), ("conv", 1), ("norm", 1), ("conv", 2))
    }
