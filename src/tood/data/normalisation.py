"""Normalisation of pixels as the backbone's weights take them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tood.config.backbone import PixelsConfig


def normalise_padded(images: Tensor, sizes: Tensor, pixels: PixelsConfig) -> Tensor:
    """Padded RGB images (B,3,H,W) uint8 -> float32 as ``normalise`` gives them, 0 beyond their ``sizes`` (B,2) (h, w).

    Computed where the images are, without a copy from the host.
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) < sizes[:, :1]
    columns = torch.arange(width, device=images.device) < sizes[:, 1:]
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    mean, std = (_on(values, images.device) for values in (pixels.mean, pixels.std))
    return images.float().sub_(mean).div_(std).masked_fill_(~inside, 0)


def normalise(image: Tensor, pixels: PixelsConfig, out: Tensor | None = None) -> Tensor:
    """RGB (3,H,W) in 0..255 -> float32 as the backbone's weights take it, written to ``out`` if given."""
    out = torch.empty(image.shape, dtype=torch.float32, device=image.device) if out is None else out
    mean, std = (_on(values, image.device) for values in (pixels.mean, pixels.std))
    return out.copy_(image).sub_(mean).div_(std)


def _on(values: Sequence[float], device: torch.device) -> Tensor:
    """(3,1,1), made on the device."""
    return torch.stack([torch.full((), value, device=device) for value in values]).view(3, 1, 1)
