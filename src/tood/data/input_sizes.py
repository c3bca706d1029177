"""Sizes of network inputs and of the objects in them, known without reading an image. Nothing here imports torch."""

import numpy as np
from numpy.typing import NDArray

from tood.config.schedule import ImagesConfig
from tood.data.network_input import PAD_MULTIPLE

SMALLEST_SIDE = 1.0
"""Pixels of the network's input; narrower or lower objects are no targets."""


def resized_size(width: int, height: int, short: int, long: int) -> tuple[int, int]:
    """(new width, new height): both times min(long / longer side, short / shorter side), rounded half up."""
    factor = min(long / max(width, height), short / min(width, height))
    return max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))


def resized_sizes(sizes: NDArray[np.int64], short: int, long: int) -> NDArray[np.int64]:
    """(I,2) widths and heights px of many images, each as from :func:`resized_size`."""
    factors = np.minimum(long / sizes.max(axis=1), short / sizes.min(axis=1))
    resized: NDArray[np.int64] = np.maximum(1, (sizes * factors[:, None] + 0.5).astype(np.int64))
    return resized


def padded_size(width: int, height: int) -> tuple[int, int]:
    """Both sides rounded up to multiples of 32."""
    return -(-width // PAD_MULTIPLE) * PAD_MULTIPLE, -(-height // PAD_MULTIPLE) * PAD_MULTIPLE


def sizes_drawn(images: ImagesConfig) -> tuple[int, int]:
    """The smallest and the largest shorter side (px) that training aims at."""
    return images.jitter or (images.short, images.short)
