"""Layout of a detector (backbone, head, widths, anchors), inferred from names and shapes of a checkpoint's tensors."""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from torch import Tensor

from tood.io.errors import UserError
from tood.weights.mmdet.parameter_keys import Family, family_of, foreign_key, has_authors_names, translate_key

CLASS_LAYER: dict[Family, str] = {"tood": "tood_cls", "atss": "cls", "gfl": "cls", "retina": "cls"}
_BOX_LAYER: dict[Family, str] = {"tood": "tood_reg", "atss": "reg", "gfl": "reg", "retina": "reg"}
_KINDS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
}
_BUILT = ("resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "resnext101_32x4d", "resnext101_64x4d")

Stage = Literal["c3", "c4", "c5"]
_STAGES: dict[int, Stage] = {2: "c3", 3: "c4", 4: "c5"}
_Vote = TypeVar("_Vote", bound=Hashable)


@dataclass(frozen=True, eq=False)
class NamedWeights:
    """Tensors under our names, with the names that the file has for them."""

    where: str
    """The file, for messages."""
    tensors: Mapping[str, Tensor]
    names: Mapping[str, str]
    """Our name to the file's; constants that are computed here stand under their own."""
    family: Family
    authors: bool
    """The file has names of the TOOD authors' release."""

    def name(self, key: str) -> str:
        """What the file calls, or would call, our ``key``."""
        return self.names.get(key) or foreign_key(key, self.family, authors=self.authors)

    def shape(self, key: str) -> tuple[int, ...] | None:
        return tuple(self.tensors[key].shape) if key in self.tensors else None

    def matching(self, pattern: str) -> list[tuple[re.Match[str], tuple[int, ...]]]:
        """Keys that match the whole pattern, and their shapes."""
        found = ((re.fullmatch(pattern, key), tuple(value.shape)) for key, value in self.tensors.items())
        return [(match, shape) for match, shape in found if match]

    def indices(self, pattern: str) -> set[int]:
        """The numbers that the first group of the pattern stands for."""
        return {int(match[1]) for match, _ in self.matching(pattern)}


def name_weights(state: Mapping[str, Tensor], where: str) -> NamedWeights:
    """Recognise the head and translate the names; UserError when it is none or more than one of ours."""
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    families = {family_of(key): key for key in reversed(list(state))}
    families.pop(None, None)
    if not families:
        shown = ", ".join(list(state)[:3])
        raise UserError(
            f"{where}: holds no head of TOOD, ATSS, PAA, GFL, RetinaNet, FreeAnchor or PISA as MMDetection or the TOOD "
            f"authors name them (its first tensors are {shown})."
        )
    if len(families) > 1:
        raise UserError(f"{where}: holds layers of several heads ({', '.join(families.values())}); give one detector.")
    family = next(iter(families))
    assert family is not None
    tensors: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for theirs, value in state.items():
        ours = translate_key(theirs) or theirs
        if ours in names:
            raise UserError(f"{where}: holds '{names[ours]}' and '{theirs}', which are the same layer.")
        tensors[ours], names[ours] = value, theirs
    authors = any(has_authors_names(key) for key in state)
    return NamedWeights(where, tensors, names, family, authors)


@dataclass(frozen=True)
class Layout:
    """Architecture of a detector as far as its tensors show it."""

    backbone: str
    """A kind of ``BackboneConfig``."""
    deformable: tuple[Stage, ...]
    extra_levels_from: Literal["p5", "c5"] | None
    """None where C5 is as wide as the pyramid, so that both have the same shapes."""
    width: int
    """Channels of the pyramid."""
    head_width: int
    classes: int
    convs: int
    deformable_convs: int
    normalised: bool
    anchors: int
    """Per location."""
    sides: int
    """Channels of the box layer for each anchor."""


def read_layout(weights: NamedWeights) -> Layout:
    """Infer the architecture; UserError names what is missing for that or contradicts itself.

    A single odd tensor is outvoted by the others, so that loading can name it afterwards.
    """
    family = weights.family
    classes, sides = _channels(weights, CLASS_LAYER[family]), _channels(weights, _BOX_LAYER[family])
    anchors = 1
    if family == "retina":
        anchors, odd = divmod(sides, 4)
        if odd or not anchors or classes % anchors:
            layers = (CLASS_LAYER[family], _BOX_LAYER[family])
            names = " and ".join(weights.name(f"bbox_head.{layer}.weight") for layer in layers)
            raise UserError(
                f"{weights.where}: {names} have {classes} and {sides} channels, which is no whole number of anchors "
                "with 4 sides each."
            )
    tower = "inter_convs" if family == "tood" else "(?:cls|reg)_convs"
    towers = weights.indices(rf"bbox_head\.{tower}\.(\d+)\..*")
    deformed_stages = weights.indices(r"backbone\.layer([234])\.\d+\.conv2\.conv_offset\..*")
    deformed = weights.indices(r"bbox_head\.inter_convs\.(\d+)\.conv\.conv_offset\..*")
    width = _commonest(weights, r"neck\.(?:lateral|fpn)_convs\.\d+\.conv\.bias", 0, "neck.fpn_convs.0.conv.bias")
    first = "inter_convs" if family == "tood" else "cls_convs"
    return Layout(
        backbone=_backbone(weights),
        deformable=tuple(_STAGES[stage] for stage in sorted(deformed_stages)),
        extra_levels_from=_extra_levels(weights, width),
        width=width,
        head_width=_commonest(
            weights, rf"bbox_head\.{tower}\.\d+\.conv\.weight", 0, f"bbox_head.{first}.0.conv.weight"
        ),
        classes=classes // anchors,
        convs=max(towers, default=0) + 1,
        deformable_convs=max(deformed, default=-1) + 1,
        normalised=bool(weights.indices(rf"bbox_head\.{tower}\.(\d+)\.gn\..*")),
        anchors=anchors,
        sides=sides // anchors,
    )


def _channels(weights: NamedWeights, layer: str) -> int:
    """Output channels of a layer of the head, on which its weight and bias must agree."""
    keys = [f"bbox_head.{layer}.{part}" for part in ("weight", "bias")]
    sizes = {key: shape[0] for key in keys if (shape := weights.shape(key))}
    if not sizes:
        raise UserError(f"{weights.where}: lacks {' and '.join(weights.name(key) for key in keys)}.")
    if len(set(sizes.values())) > 1:
        said = " and ".join(f"{weights.name(key)} {size}" for key, size in sizes.items())
        raise UserError(f"{weights.where}: its tensors disagree about the channels of one layer: {said}.")
    return next(iter(sizes.values()))


def _backbone(weights: NamedWeights) -> str:
    """The kind of backbone, from its number of blocks and the groups of their 3x3 convolutions."""
    numbers = [weights.indices(rf"backbone\.layer{stage}\.(\d+)\..*") for stage in (1, 2, 3, 4)]
    blocks = tuple(max(found, default=-1) + 1 for found in numbers)
    bottlenecks = bool(weights.matching(r"backbone\.layer\d\.\d+\.(?:conv|bn)3\..*"))
    kind = _KINDS.get((bottlenecks, blocks))
    kernels = [shape for _, shape in weights.matching(r"backbone\.layer1\.\d+\.conv2\.weight") if len(shape) == 4]
    if kind is None or not kernels:
        shown = "-".join(map(str, blocks))
        raise UserError(
            f"{weights.where}: its backbone has {shown} blocks in 'backbone.layer1' to 'backbone.layer4', which is "
            "neither ResNet-18, -34, -50, -101 nor ResNeXt."
        )
    groups, width = _vote((shape[0] // max(1, shape[1]), shape[0]) for shape in kernels)
    if groups > 1:
        kind = f"{kind.replace('resnet', 'resnext')}_{groups}x{width // groups}d"
    if kind not in _BUILT:
        raise UserError(f"{weights.where}: its backbone is a {kind}; those known are {', '.join(_BUILT)}.")
    return kind


def _extra_levels(weights: NamedWeights, width: int) -> Literal["p5", "c5"] | None:
    deepest = weights.shape("neck.lateral_convs.2.conv.weight") or (0, 0)
    first = weights.shape("neck.fpn_convs.3.conv.weight") or (0, 0)
    if len(deepest) < 2 or len(first) < 2 or deepest[1] == width:
        return None
    return "c5" if first[1] == deepest[1] else "p5"


def _commonest(weights: NamedWeights, pattern: str, axis: int, example: str) -> int:
    """The size along ``axis`` that most of the tensors agree on."""
    sizes = [shape[axis] for _, shape in weights.matching(pattern) if len(shape) > axis]
    if not sizes:
        raise UserError(f"{weights.where}: lacks {weights.name(example)}.")
    return _vote(sizes)


def _vote(values: Iterable[_Vote]) -> _Vote:
    return Counter(values).most_common(1)[0][0]
