"""Normalisation of pixels as the backbone's weights take them."""

import torch
from torch import Tensor

from tood.config.backbone import PixelsConfig


def normalise(image: Tensor, pixels: PixelsConfig, out: Tensor | None = None) -> Tensor:
    """RGB (3,H,W) in 0..255 -> float32 as the backbone's weights take it, written to ``out`` if given."""
    out = torch.empty(image.shape, dtype=torch.float32, device=image.device) if out is None else out
    mean = torch.tensor(pixels.mean, device=image.device).view(3, 1, 1)
    std = torch.tensor(pixels.std, device=image.device).view(3, 1, 1)
    return out.copy_(image).sub_(mean).div_(std)
