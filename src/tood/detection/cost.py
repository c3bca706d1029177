"""What a detector costs: parameters and multiply-accumulates."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_ASPECT = 1.6  # the paper counts at 1280x800


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """All parameters, and those that are trained (the paper's "full" numbers are the latter)."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def multiply_accumulates(model: nn.Module, short: int, long: int) -> tuple[float, tuple[int, int]]:
    """Multiply-accumulates of one image's forward pass in 1e9, and the (height, width) they were counted at.

    Counted: convolutions and matrix products, as the paper's GFLOPs are; not counted: normalisation,
    activations, sampling, post-processing. The width is 1.6 times the shorter side within the longer one.
    """
    height = max(32, short // 32 * 32)
    width = max(32, int(min(long, _ASPECT * short)) // 32 * 32)
    counted = copy.deepcopy(model).to("cpu", torch.float32).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        counted(torch.zeros(1, 3, height, width))
    return round(counter.get_total_flops() / 2e9, 4), (height, width)
