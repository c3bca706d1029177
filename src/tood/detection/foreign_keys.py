"""Names of weights in checkpoints of other code bases, and what they are called here.

Trunk and pyramid have the same names everywhere, the T-head those of MMDetection 3; the other heads and
the T-head of the TOOD authors' release are translated.
"""

from collections.abc import Mapping

from torch import Tensor

_SEGMENTS = {
    "atss_cls": "cls",
    "atss_reg": "reg",
    "atss_centerness": "centerness",
    "gfl_cls": "cls",
    "gfl_reg": "reg",
    "la_conv1": "layer_attention.0",
    "la_conv2": "layer_attention.2",
    "cls_prob_conv1": "cls_prob_module.0",
    "cls_prob_conv2": "cls_prob_module.2",
    "reg_offset_conv1": "reg_offset_module.0",
    "reg_offset_conv2": "reg_offset_module.2",
}

_CONSTANTS = ("integral.project",)
"""Fixed values that other code bases store; here they are computed."""


def translate_key(key: str) -> str | None:
    """Our name for a weight; None for stored constants. Names of our own stay as they are."""
    if key.endswith(_CONSTANTS):
        return None
    return ".".join(_SEGMENTS.get(segment, segment) for segment in key.split("."))


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under our names."""
    renamed = ((translate_key(key), value) for key, value in state.items())
    return {key: value for key, value in renamed if key is not None}
