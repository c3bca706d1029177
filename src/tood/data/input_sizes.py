"""Sizes of network inputs and of the objects in them, known without reading an image. Nothing here imports torch."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tood.config.images import ImagesConfig
from tood.data.network_input import PAD_MULTIPLE

SMALLEST_SIDE = 1.0
"""Pixels of the network's input; narrower or lower objects are no targets."""


class Bounds(NamedTuple):
    """Pixels that the sides of a resized image may have: it is as large as both allow."""

    short: int
    long: int


def bounds_at(images: ImagesConfig, scale: float) -> Bounds:
    """The bounds of a step whose sides are multiplied by ``scale``, rounded half up."""
    return Bounds(int(images.short * scale + 0.5), int(images.long * scale + 0.5))


def plain_bounds(images: ImagesConfig) -> Bounds:
    """The bounds when the detector is used."""
    return Bounds(images.short, images.long)


def bounds_drawn(images: ImagesConfig) -> tuple[Bounds, Bounds]:
    """The smallest and the largest bounds that training draws."""
    if images.jitter is not None:
        small, large = images.jitter
        return Bounds(small, images.long), Bounds(large, images.long)
    smallest, largest = images.scales
    return bounds_at(images, smallest), bounds_at(images, largest)


def every_bounds(images: ImagesConfig) -> Iterator[Bounds]:
    """All bounds that training draws, the largest first, in steps of 1 px of the shorter side."""
    smallest, largest = bounds_drawn(images)
    for short in range(largest.short, smallest.short - 1, -1):
        share = 1.0 if largest.short == smallest.short else (short - smallest.short) / (largest.short - smallest.short)
        yield Bounds(short, round(smallest.long + share * (largest.long - smallest.long)))


def resized_size(width: int, height: int, bounds: Bounds) -> tuple[int, int]:
    """(new width, new height): both times min(long / longer side, short / shorter side), rounded half up."""
    factor = min(bounds.long / max(width, height), bounds.short / min(width, height))
    return max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))


def resized_sizes(sizes: NDArray[np.int64], bounds: Bounds) -> NDArray[np.int64]:
    """(I,2) widths and heights px of many images, each as from :func:`resized_size`."""
    factors = np.minimum(bounds.long / sizes.max(axis=1), bounds.short / sizes.min(axis=1))
    resized: NDArray[np.int64] = np.maximum(1, (sizes * factors[:, None] + 0.5).astype(np.int64))
    return resized


def padded_size(width: int, height: int) -> tuple[int, int]:
    """Both sides rounded up to multiples of 32."""
    return -(-width // PAD_MULTIPLE) * PAD_MULTIPLE, -(-height // PAD_MULTIPLE) * PAD_MULTIPLE
