"""Backbones of the library timm: any of its feature extractors that gives maps of strides 8, 16 and 32."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from tood.detection.backbones import Backbone
from tood.detection.timm_folding import fold
from tood.io.errors import UserError
from tood.io.names import nearest_name

_STAGE_STRIDES = (4, 8, 16, 32)
_TRACED = (64, 64)  # height and width px of the image on which the order of layers is looked at


class TimmBackbone(Backbone):
    """A feature extractor of timm; the keys of its state dict are timm's behind ``net.``.

    Stage i is what leads to the map of stride 2^(i+1), the stem included in the first. Where all statistics are
    frozen, batch normalisations are folded into the convolutions before them (see ``folding``). Raises UserError for
    a name that timm does not know, a model without maps of strides 8, 16 and 32, and stages that cannot be told apart.
    """

    channels_last = True

    def __init__(self, model: str, *, frozen_stages: int, frozen_statistics: bool) -> None:
        super().__init__(frozen_stages=frozen_stages, frozen_statistics=frozen_statistics)
        with torch.device("meta"):
            every = _extractor(model)
            strides: list[int] = every.feature_info.reduction()
            _refuse_strides(model, strides)
            traced = _trace(model, every, strides)
        places = [strides.index(stride) for stride in _STAGE_STRIDES[1:]]
        self.net = _extractor(model, [every.feature_info.out_indices[place] for place in places])
        c3, c4, c5 = self.net.feature_info.channels()
        self.out_channels = (c3, c4, c5)
        self._frozen = _frozen_layers(model, traced, frozen_stages)
        if frozen_statistics:
            for conv, norm in traced.pairs:
                fold(self.net.get_submodule(conv), self.net.get_submodule(norm))
        self.freeze()

    def frozen_parts(self) -> list[nn.Module]:
        return [self.net.get_submodule(name) for name in self._frozen]

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.net(images)
        return maps


def _extractor(model: str, indices: Collection[int] | None = None) -> Any:
    chosen: dict[str, Any] = {} if indices is None else {"out_indices": tuple(indices)}
    try:
        return timm.create_model(model, pretrained=False, features_only=True, **chosen)
    except Exception as error:  # timm raises nearly anything for a model that it cannot cut into features
        names = timm.list_models()
        near = None if model.partition(".")[0] in names else nearest_name(model, names)
        hint = f"; did you mean '{near.name}'?" if near else f" ({_in_one_line(error)})"
        raise UserError(f"backbone.model: timm has no feature extractor '{model}'{hint}") from error


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _refuse_strides(model: str, strides: list[int]) -> None:
    if any(strides.count(stride) != 1 for stride in _STAGE_STRIDES[1:]):
        given = ", ".join(map(str, strides))
        raise UserError(
            f"backbone.model: '{model}' gives maps of strides {given}; one each of 8, 16 and 32 is needed, so choose "
            "another model."
        )


@dataclass
class _Trace:
    """What happens in a forward pass, by the names of modules."""

    layers: list[str] = field(default_factory=list)
    """Modules without children and batch normalisations, in the order in which they end."""
    pairs: list[tuple[str, str]] = field(default_factory=list)
    """Convolutions and the batch normalisations that alone and directly take their outputs."""
    until: dict[int, int] = field(default_factory=dict)
    """Stride of a map to the number of layers that have run when it is there; without maps changed outside modules."""


def _trace(model: str, net: Any, strides: list[int]) -> _Trace:
    found = _Trace()
    kept: list[Tensor] = []  # no id is used again while its tensor lives
    made_by: dict[int, str] = {}
    made_after: dict[int, int] = {}
    normalised: dict[int, tuple[str, str]] = {}
    uses = _Uses()

    def note(name: str, is_layer: bool) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            if is_layer:
                if isinstance(module, _BatchNorm) and (conv := made_by.get(id(given[0]))) is not None:
                    normalised[id(given[0])] = (conv, name)
                found.layers.append(name)
            if isinstance(output, Tensor):
                kept.append(output)
                made_after.setdefault(id(output), len(found.layers))
                if isinstance(module, nn.Conv2d):
                    made_by[id(output)] = name

        return hook

    norms = {name for name, module in net.named_modules() if isinstance(module, _BatchNorm)}
    for name, module in net.named_modules():
        if norms.isdisjoint(_parents(name)):  # an activation inside a normalisation is part of it
            module.register_forward_hook(note(name, name in norms or next(module.children(), None) is None))
    try:
        with uses:
            maps = net.eval()(torch.empty(1, 3, *_TRACED))
    except Exception as error:  # of a model for one size of images, for example
        raise UserError(
            f"backbone.model: '{model}' does not take images of any size ({_in_one_line(error)}); choose another model."
        ) from error
    for stride, channels, one in zip(strides, net.feature_info.channels(), maps, strict=True):
        expected = (1, channels, *(side // stride for side in _TRACED))
        if tuple(one.shape) != expected:
            raise UserError(
                f"backbone.model: '{model}' gives maps of shape {tuple(one.shape)} where {expected} is needed; choose "
                "another model."
            )
        if id(one) in made_after:
            found.until[stride] = made_after[id(one)]
    given_out = {id(one) for one in maps}
    found.pairs = [pair for made, pair in normalised.items() if uses.counts[made] == 1 and made not in given_out]
    return found


class _Uses(TorchFunctionMode):
    """Counts by the id of a tensor how many operations took it, in place or not."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()
        self._kept: list[Tensor] = []  # no id is used again while its tensor lives

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        made, taken = ([one for one in tree_leaves(of) if isinstance(one, Tensor)] for of in (output, (args, kwargs)))
        if made:  # asking for a shape and the like is no use
            self.counts.update(map(id, taken))
        self._kept += made
        return output


def _frozen_layers(model: str, traced: _Trace, stages: int) -> list[str]:
    """The layers of the first stages, and the modules that hold nothing but such layers."""
    if not stages:
        return []
    until = traced.until.get(_STAGE_STRIDES[stages - 1])
    if until is None:
        raise UserError(
            f"backbone.frozen_stages: the stages of '{model}' cannot be told apart; set frozen_stages to 0."
        )
    frozen, later = traced.layers[:until], traced.layers[until:]
    above = {parent for name in frozen for parent in _parents(name)}
    return [*dict.fromkeys(frozen), *sorted(above - {parent for name in later for parent in _parents(name)})]


def _parents(name: str) -> list[str]:
    """``a`` and ``a.b`` of ``a.b.c``."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]
