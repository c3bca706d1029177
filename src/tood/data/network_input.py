"""What a detector wants of an image: geometry, normalisation, padding. Here nothing imports image libraries."""

from dataclasses import dataclass

from tood.config.backbone import PixelsConfig
from tood.config.images import ImagesConfig

PAD_MULTIPLE = 32
"""Both sides of the network's input are multiples of this."""


@dataclass(frozen=True)
class NetworkInput:
    """How images become a detector's input."""

    images: ImagesConfig
    """Size, and augmentation in training."""
    pixels: PixelsConfig
    """Normalisation, which belongs to the backbone's weights."""
