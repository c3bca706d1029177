"""Starting weights: what is loaded, what is left out and said so, what is refused."""

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import Tensor
from torchvision.models import ResNet18_Weights, get_model

from tood.config.backbone import BackboneConfig
from tood.config.method import MethodConfig
from tood.detection.detector import Detector, build_detector
from tood.detection.foreign_keys import translate
from tood.detection.starting_weights import fill, load_starting_weights
from tood.errors import UserError

Build = Callable[..., Detector]


def config(**options: object) -> BackboneConfig:
    base = {"name": "small", "kind": "light", "width": 16, "norm_groups": 4, "trunk_width": 8}
    return BackboneConfig.model_validate({**base, **options})


@pytest.fixture
def build(method_named: Callable[[str], MethodConfig]) -> Build:
    return lambda name="tood", classes=3, **options: build_detector(method_named(name), config(**options), classes)


def same(a: dict[str, Tensor], b: dict[str, Tensor], key: str) -> bool:
    return torch.equal(a[key], b[key])


@pytest.mark.parametrize("name", ["tood", "atss"])
def test_other_classes_load_all_but_the_class_layer(build: Build, name: str, tmp_path: Path) -> None:
    source, target = build(name, classes=5), build(name, classes=3)
    torch.save({"detector": source.state_dict(), "classes": ["a"]}, tmp_path / "model.pt")
    lines = load_starting_weights(target, config(weights=str(tmp_path / "model.pt")), tmp_path)
    layer = "bbox_head.tood_cls" if name == "tood" else "bbox_head.cls"
    skipped = {f"{layer}.weight", f"{layer}.bias"}
    for key in target.state_dict():
        if key not in skipped:
            assert same(target.state_dict(), source.state_dict(), key), key
    assert f"not used from {tmp_path / 'model.pt'}: {layer}.weight, {layer}.bias" in lines


def test_another_head_still_gives_trunk_and_pyramid(build: Build, tmp_path: Path) -> None:
    source, target = build("atss"), build("tood")
    report = fill(target, source.state_dict(), "atss.pt")
    assert {key.split(".")[0] for key in report.loaded} >= {"backbone", "neck"}
    assert any(key.startswith("bbox_head.cls_convs") for key in report.left_out)
    assert any(key.startswith("bbox_head.inter_convs") for key in report.initialised)


def test_a_bare_trunk_fills_the_trunk(build: Build, tmp_path: Path) -> None:
    source, target = build(), build()
    torch.save(source.backbone.state_dict(), tmp_path / "small.pt")
    lines = load_starting_weights(target, config(weights="generated"), tmp_path)
    assert same(target.backbone.state_dict(), source.backbone.state_dict(), "layer4.0.conv1.weight")
    assert not same(target.state_dict(), source.state_dict(), "neck.fpn_convs.0.conv.weight")
    assert lines == [f"weights from {tmp_path / 'small.pt'}: {len(source.backbone.state_dict())} tensors loaded"]


def test_nothing_is_loaded_without_weights(build: Build, tmp_path: Path) -> None:
    assert load_starting_weights(build(), config(), tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"not a checkpoint", "cannot be read as weights"),
        ({"epoch": 3}, "holds no tensors"),
        ({"layer9.weight": torch.zeros(3)}, "no weights that fit this trunk"),
    ],
)
def test_useless_files_are_refused(build: Build, tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=message) as caught:
        load_starting_weights(build(), config(weights=str(path)), tmp_path)
    assert "weights.pt" in str(caught.value)


def test_imagenet_weights_come_from_torchvision(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = get_model("resnet18", weights=None).state_dict()
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda *_, **__: state)
    options = {"kind": "resnet18", "weights": "imagenet"}
    target = build(**options)
    lines = load_starting_weights(target, config(**options), tmp_path)
    assert same(target.backbone.state_dict(), state, "layer4.1.conv2.weight")
    assert lines == ["weights from ImageNet (IMAGENET1K_V1): 120 tensors loaded"]


def test_a_failed_download_says_what_to_do(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", offline)
    options = {"kind": "resnet18", "weights": "imagenet"}
    with pytest.raises(UserError, match="could not be fetched") as caught:
        load_starting_weights(build(**options), config(**options), tmp_path)
    assert "no route" in str(caught.value)


def test_the_light_trunk_has_no_imagenet_weights(build: Build, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="light trunk"):
        load_starting_weights(build(), config(weights="imagenet"), tmp_path)


def test_foreign_names_are_translated() -> None:
    one = torch.zeros(1)
    foreign = {
        "bbox_head.atss_centerness.bias": one,
        "bbox_head.gfl_reg.weight": one,
        "bbox_head.integral.project": one,
        "bbox_head.cls_decomp.la_conv2.weight": one,
        "bbox_head.reg_offset_conv1.bias": one,
        "bbox_head.tood_cls.weight": one,
    }
    assert list(translate(foreign)) == [
        "bbox_head.centerness.bias",
        "bbox_head.reg.weight",
        "bbox_head.cls_decomp.layer_attention.2.weight",
        "bbox_head.reg_offset_module.0.bias",
        "bbox_head.tood_cls.weight",
    ]
