"""Backbones: what goes with timm's models, and the pixels that a backbone's weights take."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tood.config.backbone import BackboneConfig, load_backbone
from tood.config.packaged import PACKAGED

PARAMS = Path(__file__).parents[2] / "params"
TIMM = {"kind": "timm", "model": "tf_efficientnet_lite0"}


def backbone(**fields: Any) -> BackboneConfig:
    return BackboneConfig.model_validate({"name": "x", **fields})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kind": "timm"}, "model"),
        ({"kind": "resnet18", "model": "resnet18"}, "model"),
        ({**TIMM, "deformable": ["c4"]}, "deformable"),
        ({**TIMM, "model": "resnet18", "weights": "packaged"}, "'packaged' .*tf_efficientnet_lite0"),
        ({"kind": "resnet18", "weights": "packaged"}, "'packaged' .*tf_efficientnet_lite0"),
        ({**TIMM, "pixels": {"std": [0, 1, 1]}}, "pixels.std"),
        ({**TIMM, "pixels": {"mean": [0, 1]}}, "pixels.mean"),
        ({**TIMM, "pixels": {"mean": [0, 1, 256]}}, "pixels.mean"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){named}"):
        backbone(**fields)


@pytest.mark.parametrize("model", PACKAGED)
def test_stored_backbones_are_read_as_what_they_were(model: str) -> None:
    kept = backbone(kind="timm", model=model, weights="packaged", pixels={"mean": [127, 127, 127]})
    assert BackboneConfig.model_validate_json(kept.model_dump_json()) == kept
    assert kept.pixels.std == (58.395, 57.12, 57.375)


def test_pixels_are_imagenets_unless_a_backbone_says_otherwise() -> None:
    assert load_backbone("r50", PARAMS).pixels.mean == (123.675, 116.28, 103.53)
    assert load_backbone("lite0", PARAMS).pixels.mean == (127, 127, 127)
