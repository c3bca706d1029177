"""Weights to start a training from: ImageNet, a trunk pretrained here, or any checkpoint file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision.models import get_model_weights

from tood.config.backbone import BackboneConfig
from tood.detection.detector import Detector
from tood.detection.foreign_keys import translate
from tood.detection.tensor_files import load_tensors
from tood.errors import UserError

_CONTAINERS = ("detector", "state_dict", "model", "trunk")
_CLASS_LAYERS = ("bbox_head.tood_cls.", "bbox_head.cls.")
_TRUNK = "backbone."
_SHOWN = 8


@dataclass(frozen=True)
class LoadedWeights:
    """What became of a checkpoint's tensors, by name."""

    source: str
    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    """In the file, but of another shape, unknown here, or of the class layer."""
    initialised: tuple[str, ...]
    """In the detector, but not in the file: these keep their random values."""

    def lines(self) -> list[str]:
        """The same for a log."""
        lines = [f"weights from {self.source}: {len(self.loaded)} tensors loaded"]
        if self.left_out:
            lines.append(f"not used from {self.source}: {_shorten(self.left_out)}")
        trunk = [name for name in self.initialised if name.startswith(_TRUNK)]
        if trunk:
            lines.append(f"not in {self.source}, so random at first: {_shorten(trunk)}")
        return lines


def load_starting_weights(detector: Detector, backbone: BackboneConfig, pretrained: Path) -> list[str]:
    """Fill a fresh detector as ``backbone.weights`` says; lines for the log.

    ``pretrained`` is the folder of trunks pretrained on generated crops (``<backbone name>.pt``). Raises
    UserError when the weights cannot be had or do not fit.
    """
    if backbone.weights == "none":
        return []
    if backbone.weights == "imagenet":
        state, source = _imagenet(backbone), "ImageNet (IMAGENET1K_V1)"
    else:
        generated = backbone.weights == "generated"
        path = pretrained / f"{backbone.name}.pt" if generated else Path(backbone.weights)
        state, source = read_state(path), str(path)
    return fill(detector, state, source).lines()


def fill(detector: Detector, state: Mapping[str, Tensor], source: str) -> LoadedWeights:
    """Load all that fits by name and shape, except the layer that knows the classes.

    ``state`` holds a whole detector or a bare trunk. Raises UserError if nothing of it fits the trunk.
    """
    if not any(key.startswith(_TRUNK) for key in state):
        state = {_TRUNK + key: value for key, value in state.items()}
    state = translate(state)
    own = detector.state_dict()
    fitting = {
        key: value
        for key, value in state.items()
        if key in own and own[key].shape == value.shape and not key.startswith(_CLASS_LAYERS)
    }
    if not any(key.startswith(_TRUNK) for key in fitting):
        raise UserError(f"{source}: holds no weights that fit this trunk; check backbone.kind and its width.")
    detector.load_state_dict(fitting, strict=False)
    return LoadedWeights(
        source=source,
        loaded=tuple(fitting),
        left_out=tuple(key for key in state if key not in fitting),
        initialised=tuple(key for key in own if key not in state),
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint: a plain state dict, or one inside a training checkpoint.

    Only tensors and plain values are unpickled. Raises UserError if the file is missing or something else.
    """
    content: Any = load_tensors(path)
    if isinstance(content, dict):
        content = next((content[key] for key in _CONTAINERS if isinstance(content.get(key), dict)), content)
        state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
        if state:
            return state
    raise UserError(f"{path}: holds no tensors by name, so no starting weights (backbone.weights).")


def _imagenet(backbone: BackboneConfig) -> Mapping[str, Tensor]:
    if backbone.kind == "light":
        raise UserError(
            f"backbone {backbone.name}: there are no ImageNet weights for the light trunk; "
            "set weights to 'generated', 'none' or a file."
        )
    weights = get_model_weights(backbone.kind).IMAGENET1K_V1
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"backbone {backbone.name}: the ImageNet weights could not be fetched from {weights.url} "
            f"({error}); download the file by hand and give its path as weights, or set weights to 'none'."
        ) from error
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def _shorten(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
