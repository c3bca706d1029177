"""Augmentation drawn for one image of one step: a pure function of seed, epoch, step and image."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import tv_tensors
from torchvision.transforms import v2

from tood.config.images import CropConfig, ImagesConfig
from tood.data.input_sizes import Bounds, bounds_at, plain_bounds
from tood.data.random_streams import random_stream

_SHAPE = 0.75  # of crops: width / height differs at most by this factor from the image's, so that a batch stays dense
_SMALLEST_CROP = 2.0  # px; images of fewer pixels are kept whole, for torchvision divides by the side of a crop
_COLOURS = v2.ColorJitter(brightness=0.2, contrast=0.3, saturation=0.3, hue=0.02)
"""Channels are not permuted, as SSD does, for colours may be what tells classes apart."""


@dataclass(frozen=True)
class Visit:
    """One of the times that training looks at an image."""

    epoch: int = 0
    occurrence: int = 0
    """How often it was seen in this epoch before."""
    scale: float = 1.0
    """Of the step: the factor of both sides."""


@dataclass(frozen=True)
class Augmentation:
    """What happens to one image, in this order."""

    bounds: Bounds
    """Size that it is resized to."""
    crop: tuple[int, int, int, int] | None = None
    """Left, top, width and height px of the image that are kept, before the resize."""
    flip: bool = False
    colours: int | None = None
    """Seed of the photometric distortion."""


def no_augmentation(images: ImagesConfig) -> Augmentation:
    """When the detector is used: the configured size, nothing else."""
    return Augmentation(plain_bounds(images))


def bounds_to_decode_for(images: ImagesConfig, augmentation: Augmentation) -> Bounds | None:
    """What ``decode_for`` may assume of a whole picture; None where each of its pixels counts.

    That is so for a crop, and without antialiasing, where a resize takes single pixels.
    """
    return augmentation.bounds if images.antialias and augmentation.crop is None else None


def draw_augmentation(
    images: ImagesConfig,
    seed: int,
    visit: Visit,
    image_id: int,
    size: tuple[int, int],
    boxes: NDArray[np.float32],
) -> Augmentation:
    """The augmentation of a visit to an image of ``size`` (width, height) px with objects ``boxes`` (n,4) xyxy px."""
    again = [visit.occurrence] if visit.occurrence else []
    rng = random_stream("augmentation", seed, visit.epoch, image_id, *again)
    flip = bool(rng.random() < images.flip)
    if images.jitter is None:
        bounds = bounds_at(images, visit.scale)
    else:
        bounds = Bounds(int(rng.integers(*images.jitter, endpoint=True)), images.long)
    crop = None
    if images.crop is not None and len(boxes) and rng.random() < images.crop.probability:
        crop = _draw_crop(images.crop, int(rng.integers(2**63)), size, boxes)
    colours = int(rng.integers(2**63)) if images.photometric and rng.random() < images.photometric else None
    return Augmentation(bounds, crop, flip, colours)


def _draw_crop(
    config: CropConfig, seed: int, size: tuple[int, int], boxes: NDArray[np.float32]
) -> tuple[int, int, int, int] | None:
    width, height = size
    if config.smallest * min(size) < _SMALLEST_CROP:
        return None
    shape = width / height
    cropping = v2.RandomIoUCrop(config.smallest, 1.0, shape * _SHAPE, shape / _SHAPE)
    framed = tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(height, width))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = cropping.make_params([framed])
    return (found["left"], found["top"], found["width"], found["height"]) if found else None


def distort_colours(image: torch.Tensor, seed: int) -> torch.Tensor:
    """An image (3,H,W) uint8 with other brightness, contrast, saturation and hue, a pure function of ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        distorted: torch.Tensor = _COLOURS(image)
    return distorted
