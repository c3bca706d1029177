"""Starting weights of a training: ImageNet, a backbone pretrained here, or any checkpoint file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from tood.config.backbone import BackboneConfig, address_digest
from tood.detection.detector import Detector
from tood.io.errors import UserError, listed
from tood.io.lock import lock_file
from tood.weights.mmdet.checkpoint_file import read_foreign_file
from tood.weights.mmdet.parameter_keys import translate

_CONTAINERS = ("detector", "state_dict", "model", "tr")
_CLASS_LAYERS = ("bbox_head.tood_cls.", "bbox_head.cls.")
_BACKBONE = "backbone."
_COUNTER = "num_batches_tracked"
"""A scalar of every batch normalisation, not used here: it fits any detector, so it does not count."""
_SHOWN = 8


@dataclass(frozen=True)
class LoadedWeights:
    """Names of a checkpoint's tensors that were loaded, left out or missing."""

    source: str
    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    """In the file, but of the class layer (these first), of another shape, or unknown here."""
    initialised: tuple[str, ...]
    """In the detector, but not in the file: these keep their initial values."""

    def lines(self) -> list[str]:
        """The same for a log."""
        lines = [f"weights from {self.source}: {len(self.loaded)} tensors loaded"]
        if self.left_out:
            lines.append(f"not used from {self.source}: {listed(self.left_out, _SHOWN)}")
        backbone = [name for name in self.initialised if name.startswith(_BACKBONE)]
        if backbone:
            lines.append(f"not in {self.source}, so freshly initialised: {listed(backbone, _SHOWN)}")
        return lines


def load_starting_weights(
    detector: Detector, backbone: BackboneConfig, pretrained: Path, classes: tuple[str, ...] | None = None
) -> list[str]:
    """Fill a fresh detector as ``backbone.weights`` says; lines for the log.

    ``pretrained`` is the folder of backbones pretrained on generated crops (``<backbone name>.pt``). With the
    ``classes`` to train for, in label order, the class layer of a ``model.pt`` trained for exactly these is
    loaded too. Raises UserError when the weights cannot be had or do not fit.
    """
    if backbone.weights == "none":
        return []
    if backbone.kind == "timm" and backbone.weights in ("imagenet", "packaged"):
        from tood.weights.timm_weights import timm_weights  # timm takes 1.5 s to import

        state, source = timm_weights(backbone, detector)
        return fill(detector, state, source, whole_backbone=True).lines()
    if backbone.weights == "imagenet":
        return fill(detector, _imagenet(backbone), "ImageNet (IMAGENET1K_V1)").lines()
    if backbone.weights == "generated":
        path = pretrained / f"{backbone.name}.pt"
        if not path.exists():
            raise UserError(f"{path}: no such file of starting weights; make it with: tood pretrain {backbone.name}")
        return fill(detector, read_checkpoint(path).state, str(path), whole_backbone=True).lines()
    if address_digest(backbone.weights) is not None:
        path = _fetched(backbone.weights, f"backbone {backbone.name}: the weights")
        return fill(detector, read_checkpoint(path).state, backbone.weights).lines()
    checkpoint = read_checkpoint(Path(backbone.weights))
    same_classes = classes is not None and checkpoint.classes == classes
    return fill(detector, checkpoint.state, backbone.weights, same_classes=same_classes).lines()


def fill(
    detector: Detector,
    state: Mapping[str, Tensor],
    source: str,
    *,
    whole_backbone: bool = False,
    same_classes: bool = False,
) -> LoadedWeights:
    """Load all tensors that fit by name and shape; the classification layer only if the classes are the same.

    ``state`` holds a whole detector or a bare backbone. Raises UserError if nothing of it fits the backbone, if
    something that training never changes would stay random, or anything of the backbone with ``whole_backbone``.
    """
    if not any(key.startswith(_BACKBONE) for key in state):
        state = {_BACKBONE + key: value for key, value in state.items()}
    own = detector.state_dict()
    state = translate(_with_timm_names(state, own))
    fitting = {
        key: value
        for key, value in state.items()
        if key in own and own[key].shape == value.shape and (same_classes or not key.startswith(_CLASS_LAYERS))
    }
    if not any(key.startswith(_BACKBONE) and not key.endswith(_COUNTER) for key in fitting):
        raise UserError(f"{source}: holds no weights that fit this backbone; check backbone.kind and its width.")
    backbone = [key for key in own if key.startswith(_BACKBONE) and not key.endswith(_COUNTER)]
    fixed = backbone if whole_backbone else _never_trained(detector)
    missing = [key for key in fixed if key not in fitting]
    if missing:
        frozen = "" if whole_backbone else "frozen "
        remedy = "make it again" if whole_backbone else "set backbone.frozen_stages to 0 and norm to 'batch'"
        raise UserError(
            f"{source}: has nothing that fits {len(missing)} tensors of the {frozen}backbone, {missing[0]} for one, "
            f"which would stay random; check backbone.kind and its width, or {remedy}."
        )
    detector.load_state_dict(fitting, strict=False)
    left_out = sorted((key for key in state if key not in fitting), key=lambda key: not key.startswith(_CLASS_LAYERS))
    return LoadedWeights(
        source=source,
        loaded=tuple(fitting),
        left_out=tuple(left_out),
        initialised=tuple(key for key in own if key not in state and not key.endswith(_COUNTER)),
    )


def _with_timm_names(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The keys of timm's own checkpoints as those of its feature extractors, which lie below ``net``.

    Some extractors join the first parts of a name (``stages.0.x`` is ``stages_0.x`` there).
    """
    net = f"{_BACKBONE}net."
    by_joined = {key.removeprefix(net).replace(".", "_"): key for key in own if key.startswith(net)}
    if not by_joined or any(key.startswith(net) for key in state):
        return state
    return {by_joined.get(key.removeprefix(_BACKBONE).replace(".", "_"), key): value for key, value in state.items()}


def _never_trained(detector: Detector) -> list[str]:
    """Names of the backbone's tensors that keep their starting values: without gradient, or kept statistics."""
    backbone = detector.backbone
    kept = {id(module) for module in backbone.frozen_normalisations()}
    names = [_BACKBONE + name for name, parameter in backbone.named_parameters() if not parameter.requires_grad]
    for name, module in backbone.named_modules():
        if id(module) in kept:
            names += [f"{_BACKBONE}{name}.running_mean", f"{_BACKBONE}{name}.running_var"]
    return names


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The tensors of a file by name, and the classes in label order where the file says them."""

    state: Mapping[str, Tensor]
    classes: tuple[str, ...] | None


def read_checkpoint(path: Path) -> Checkpoint:
    """A plain state dict, or one inside a training checkpoint such as ``model.pt``.

    Nothing in it is executed. Raises UserError if the file is missing or something else.
    """
    content: Any = read_foreign_file(path)
    if isinstance(content, dict):
        classes = content.get("classes")
        content = next((content[key] for key in _CONTAINERS if isinstance(content.get(key), dict)), content)
        state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
        if state:
            return Checkpoint(state, tuple(map(str, classes)) if isinstance(classes, list) else None)
    raise UserError(f"{path}: holds no tensors by name, so no starting weights (backbone.weights).")


def _imagenet(backbone: BackboneConfig) -> Mapping[str, Tensor]:
    if backbone.kind == "light":
        raise UserError(
            f"backbone {backbone.name}: there are no ImageNet weights for the light backbone; "
            "set weights to 'generated', 'none' or a file."
        )
    url = get_model_weights(backbone.kind).IMAGENET1K_V1.url
    state = read_checkpoint(_fetched(url, f"backbone {backbone.name}: the ImageNet weights")).state
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def _fetched(url: str, what: str) -> Path:
    """Download a file, whose name has the first digits of its SHA-256, into torch's folder of downloads."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    try:
        with _one_download_at_a_time(url):
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(url, str(path), hash_prefix=address_digest(url), progress=False)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{what} could not be fetched from {url} ({error}); download the file by hand and give its path as "
            "weights, or set weights to 'none'."
        ) from error
    return path


@contextmanager
def _one_download_at_a_time(url: str) -> Iterator[None]:
    """Processes and runs that start together wait for the first one's download and then read its file."""
    folder = Path(torch.hub.get_dir())
    if (folder / "checkpoints" / url.rpartition("/")[2]).is_file():  # complete, since it was moved there
        yield
        return
    with lock_file(folder / "tood-download.lock", folder, lambda _: None):
        yield
