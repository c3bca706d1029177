"""Cost of a detector: parameters and multiply-accumulates (GMACs), in total and of every part."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from tood.detection.detector import Detector

PAPER_SIZE = (800, 1280)
"""(height, width) in pixels at which the paper counts."""

COUNTED = (
    "multiply-accumulates of convolutions and matrix products; a deformable convolution counts as the convolution "
    "of its shape, beside the one that predicts its offsets; biases, normalisation, activations, upsampling, "
    "sampling and NMS are not counted"
)
"""The paper's own rule is not recorded; this one comes within 0.5 % of its numbers."""

_ASPECT = 1.6  # the paper counts at 1280x800


@dataclass(frozen=True)
class PartCost:
    """Cost of one part of a detector, by its name in the state dict (``bbox_head.inter_convs``)."""

    name: str
    parameters: int
    trainable: int
    gmacs: float | None = None
    """1e9 multiply-accumulates of one image; of a head's layers, which are computed together, None."""


@dataclass(frozen=True)
class DetectorCost:
    """Backbone, neck, head and the layers of the head; the total of all."""

    parts: tuple[PartCost, ...]
    total: PartCost
    size: tuple[int, int]
    """(height, width) at which multiply-accumulates were counted."""


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """All parameters, and those that are trained (the paper's "full" numbers are the latter)."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def multiply_accumulates(model: nn.Module, short: int, long: int) -> tuple[float, tuple[int, int]]:
    """Multiply-accumulates of one image's forward pass in 1e9, and the (height, width) they were counted at.

    ``COUNTED`` says what is counted. The width is 1.6 times the shorter side, at most the longer one.
    """
    height = max(32, short // 32 * 32)
    width = max(32, int(min(long, _ASPECT * short)) // 32 * 32)
    return round(_count(model, (height, width)).get_total_flops() / 2e9, 4), (height, width)


def detector_cost(detector: Detector, size: tuple[int, int] = PAPER_SIZE) -> DetectorCost:
    """Parameters and multiply-accumulates of every part for one image of ``size`` (height, width)."""
    counts = _count(detector, size).get_flop_counts()
    root = type(detector).__name__

    def gmacs(path: str) -> float:
        return sum(counts[path].values()) / 2e9

    parts = [
        PartCost(name, *count_parameters(module), gmacs(f"{root}.{name}")) for name, module in detector.named_children()
    ]
    parts += [
        PartCost(f"bbox_head.{name}", *count_parameters(layer)) for name, layer in detector.bbox_head.named_children()
    ]
    return DetectorCost(tuple(parts), PartCost("", *count_parameters(detector), gmacs(root)), size)


def _count(model: nn.Module, size: tuple[int, int]) -> FlopCounterMode:
    counted = copy.deepcopy(model).to("cpu", torch.float32).eval()
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.torchvision.deform_conv2d: _deformable})
    with torch.no_grad(), counter:
        counted(torch.zeros(1, 3, *size))
    return counter


def _deformable(x: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Operations of the ordinary convolution with this kernel, as torch counts them."""
    return int(conv_flop_count(x, weight, out_shape))
