"""Translation of parameter names (state dict keys) between other code bases and this project.

Backbone and pyramid have the same names everywhere, the T-head those of MMDetection 3; the other heads and
the T-head of the TOOD authors' release are translated.
"""

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

Family = Literal["tood", "atss", "gfl", "retina"]
"""Whose names the layers of a head have."""

_AUTHORS = {
    "la_conv1": "layer_attention.0",
    "la_conv2": "layer_attention.2",
    "cls_prob_conv1": "cls_prob_module.0",
    "cls_prob_conv2": "cls_prob_module.2",
    "reg_offset_conv1": "reg_offset_module.0",
    "reg_offset_conv2": "reg_offset_module.2",
}
"""The T-head in the authors' release."""

_OUTPUTS: dict[Family, dict[str, str]] = {
    "tood": {},
    "atss": {"atss_cls": "cls", "atss_reg": "reg", "atss_centerness": "centerness"},
    "gfl": {"gfl_cls": "cls", "gfl_reg": "reg"},
    "retina": {"retina_cls": "cls", "retina_reg": "reg"},
}

_SEGMENTS = {**_AUTHORS, **{theirs: ours for names in _OUTPUTS.values() for theirs, ours in names.items()}}

_CONSTANTS = ("integral.project",)
"""Fixed values that other code bases store; here they are computed."""

_OLD_OFFSET = re.compile(r"(\.\d+\.conv2?)_offset\.(weight|bias)$")
"""Before version 2, deformable convolutions had their offset layer beside them, not inside."""


def translate_key(key: str) -> str | None:
    """Our name for a weight; None for stored constants. Names of our own stay as they are."""
    if key.endswith(_CONSTANTS):
        return None
    key = _OLD_OFFSET.sub(r"\1.conv_offset.\2", key)
    return ".".join(_SEGMENTS.get(segment, segment) for segment in key.split("."))


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under our names."""
    renamed = ((translate_key(key), value) for key, value in state.items())
    return {key: value for key, value in renamed if key is not None}


def has_authors_names(key: str) -> bool:
    """Whether only the TOOD authors' release has a weight of this name."""
    return any(segment in _AUTHORS for segment in key.split("."))


def family_of(key: str) -> Family | None:
    """The head whose files alone have a weight of this name; None for names that several share."""
    part, _, rest = key.partition(".")
    segment = rest.split(".")[0]
    if part != "bbox_head":
        return None
    if has_authors_names(key) or segment.startswith(("tood_", "inter_convs", "cls_decomp", "reg_decomp")):
        return "tood"
    if segment in ("cls_prob_module", "reg_offset_module"):
        return "tood"
    if key.endswith(_CONSTANTS):
        return "gfl"
    return next((family for family, names in _OUTPUTS.items() if segment in names), None)


def foreign_key(key: str, family: Family, *, authors: bool) -> str:
    """The name of our ``key`` in a file of that head, for messages about missing weights."""
    names = {ours: theirs for theirs, ours in _OUTPUTS[family].items()}
    part, _, rest = key.partition(".")
    if part != "bbox_head":
        return key
    if authors:
        for theirs, ours in _AUTHORS.items():
            rest = rest.replace(f"{ours}.", f"{theirs}.")
    first, dot, tail = rest.partition(".")
    return f"{part}.{names.get(first, first)}{dot}{tail}"
