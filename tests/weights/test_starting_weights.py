"""Starting weights: what is loaded, what is left out and said so, what is refused."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import Tensor
from torchvision.models import ResNet18_Weights, get_model

from tood.config.backbone import BackboneConfig
from tood.config.method import MethodConfig
from tood.detection.detector import Detector, build_detector
from tood.io.errors import UserError
from tood.weights.mmdet.parameter_keys import translate
from tood.weights.starting_weights import fill, load_starting_weights

Build = Callable[..., Detector]


def config(**options: object) -> BackboneConfig:
    base = {"name": "small", "kind": "light", "width": 16, "norm_groups": 4, "first_stage_width": 8}
    return BackboneConfig.model_validate({**base, **options})


@pytest.fixture
def build(method_named: Callable[[str], MethodConfig]) -> Build:
    return lambda name="tood", classes=3, **options: build_detector(method_named(name), config(**options), classes)


@pytest.fixture(autouse=True)
def _own_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked up or locked in the user's cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


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


def test_another_head_still_gives_backbone_and_pyramid(build: Build, tmp_path: Path) -> None:
    source, target = build("atss"), build("tood")
    report = fill(target, source.state_dict(), "atss.pt")
    assert {key.split(".")[0] for key in report.loaded} >= {"backbone", "neck"}
    assert any(key.startswith("bbox_head.cls_convs") for key in report.left_out)
    assert any(key.startswith("bbox_head.inter_convs") for key in report.initialised)


def test_a_bare_backbone_fills_the_backbone(build: Build, tmp_path: Path) -> None:
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
        ({"layer9.weight": torch.zeros(3)}, "no weights that fit this backbone"),
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


def downloaded(state: object, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make torch's folder of downloads hold torchvision's file with this content."""
    monkeypatch.setenv("TORCH_HOME", str(folder))
    path = folder / "hub/checkpoints" / ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def test_imagenet_weights_come_from_torchvision(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = get_model("resnet18", weights=None).state_dict()
    downloaded(state, tmp_path, monkeypatch)
    options = {"kind": "resnet18", "weights": "imagenet"}
    target = build(**options)
    lines = load_starting_weights(target, config(**options), tmp_path)
    assert same(target.backbone.state_dict(), state, "layer4.1.conv2.weight")
    assert lines == ["weights from ImageNet (IMAGENET1K_V1): 120 tensors loaded"]


def test_a_failed_download_says_what_to_do(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    options = {"kind": "resnet18", "weights": "imagenet"}
    with pytest.raises(UserError, match="could not be fetched") as caught:
        load_starting_weights(build(**options), config(**options), tmp_path)
    assert "no route" in str(caught.value)


def test_the_light_backbone_has_no_imagenet_weights(build: Build, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="light backbone"):
        load_starting_weights(build(), config(weights="imagenet"), tmp_path)


@pytest.mark.parametrize("options", [{"weights": "x.pt"}, {"weights": "generated"}, {"weights": "none"}])
def test_a_backbone_of_another_width_is_refused(build: Build, options: dict[str, object]) -> None:
    """Counters of batches fit everywhere and prove nothing."""
    source = build(first_stage_width=32).backbone.state_dict()
    with pytest.raises(UserError, match="no weights that fit this backbone"):
        fill(build(**options), source, "other.pt")


@pytest.mark.parametrize("lost", ["conv1.weight", "layer1.0.bn1.bias", "bn1.running_var", "layer3.0.bn1.running_mean"])
def test_nothing_that_is_never_trained_may_stay_random(build: Build, lost: str) -> None:
    """The stem and stage 1 have no gradient, and no statistics change (a file is given as weights)."""
    state = build().backbone.state_dict()
    del state[lost]
    with pytest.raises(UserError, match=f"other.pt: .* 1 tensors of the frozen backbone, backbone.{lost} for one"):
        fill(build(weights="x.pt"), state, "other.pt")
    assert fill(build(weights="none"), state, "other.pt").initialised[0] == f"backbone.{lost}"
    free = build(weights="x.pt", frozen_stages=0, norm="batch")
    assert fill(free, state, "other.pt").initialised[0] == f"backbone.{lost}"


def test_what_is_trained_may_start_at_random(build: Build) -> None:
    state = {key: value for key, value in build().backbone.state_dict().items() if key != "layer4.0.conv1.weight"}
    report = fill(build(weights="x.pt"), state, "other.pt")
    assert "not in other.pt, so freshly initialised: backbone.layer4.0.conv1.weight" in report.lines()


def test_generated_weights_fill_the_whole_backbone(build: Build, tmp_path: Path) -> None:
    state = {key: value for key, value in build().backbone.state_dict().items() if key != "layer4.0.conv1.weight"}
    torch.save(state, tmp_path / "small.pt")
    with pytest.raises(UserError, match=r"small\.pt: .* 1 tensors of the backbone, backbone.layer4.0.conv1.weight"):
        load_starting_weights(build(weights="generated"), config(weights="generated"), tmp_path)


def test_left_out_class_layers_are_named_first(build: Build) -> None:
    state = build("tood", classes=5).state_dict()
    state = {**{f"backbone.extra{index}.weight": torch.zeros(1) for index in range(20)}, **state}
    lines = fill(build("tood", classes=3), state, "other.pt").lines()
    line = next(line for line in lines if line.startswith("not used"))
    assert line.startswith("not used from other.pt: bbox_head.tood_cls.weight, bbox_head.tood_cls.bias, ")
    assert line.endswith("and 14 more")


@pytest.mark.parametrize("name", ["tood", "atss"])
def test_the_class_layer_comes_along_for_the_same_classes_only(build: Build, name: str, tmp_path: Path) -> None:
    source, path = build(name), tmp_path / "model.pt"
    torch.save({"format": "tood-1", "detector": source.state_dict(), "classes": ["a", "b", "c"]}, path)
    layer = "bbox_head.tood_cls.weight" if name == "tood" else "bbox_head.cls.weight"
    for classes, loaded in ((("a", "b", "c"), True), (("b", "a", "c"), False), (("a", "b"), False), (None, False)):
        target = build(name, classes=3 if classes is None else len(classes))
        lines = load_starting_weights(target, config(weights=str(path)), tmp_path, classes)
        assert same(target.state_dict(), source.state_dict(), layer) == loaded
        assert any(layer in line for line in lines) != loaded


def test_downloads_wait_for_each_other(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three at once: one fetches the file that all of them read."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = get_model("resnet18", weights=None).state_dict()
    options = {"kind": "resnet18", "weights": "imagenet"}
    at_work, most = [], []

    def download(_: str, path: str, **__: object) -> None:
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.2)
        at_work.pop()
        torch.save(state, path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    detectors = [build(**options) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda one: load_starting_weights(one, config(**options), tmp_path), detectors))
    assert most == [1]


def test_weights_that_are_there_need_no_lock(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder may be shared and read-only."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = get_model("resnet18", weights=None).state_dict()
    downloaded(state, tmp_path, monkeypatch)
    options = {"kind": "resnet18", "weights": "imagenet"}
    load_starting_weights(build(**options), config(**options), tmp_path)
    assert [path.name for path in (tmp_path / "hub").iterdir()] == ["checkpoints"]


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
