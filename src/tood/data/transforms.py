"""Image transforms of network inputs: keep-ratio resize, scale jitter and flip (with the boxes), normalisation."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from tood.config.schedule import ImagesConfig
from tood.data.input_sizes import SMALLEST_SIDE, resized_size, sizes_drawn
from tood.data.network_input import MEAN, STD
from tood.data.random_streams import random_stream


@dataclass(frozen=True)
class Augmentation:
    """What happens to one image: the shorter side aimed at (px) and whether it is mirrored."""

    short: int
    flip: bool


def no_augmentation(config: ImagesConfig) -> Augmentation:
    """Test time: the configured shorter side, not mirrored."""
    return Augmentation(config.short, flip=False)


def draw_augmentation(config: ImagesConfig, seed: int, epoch: int, image_id: int) -> Augmentation:
    """Training: jitter and flip, a pure function of (seed, epoch, image id)."""
    rng = random_stream("augmentation", seed, epoch, image_id)
    flip = rng.random() < config.flip
    low, high = sizes_drawn(config)
    return Augmentation(int(rng.integers(low, high, endpoint=True)), flip)


def transform(
    image: Tensor, boxes: Tensor, labels: Tensor, augmentation: Augmentation, config: ImagesConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Resize, mirror and clip an image (3,H,W) uint8 with its boxes (n,4) xyxy px and labels (n,).

    Returns the three for the new size. Bilinear with half-pixel centres. Boxes are scaled by the factors of
    the rounded size and clipped to the image; those left below 1 px in width or height are dropped with
    their labels.
    """
    height, width = image.shape[-2:]
    new_width, new_height = resized_size(width, height, augmentation.short, config.long)
    picture = tv_tensors.Image(image)
    framed = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))
    if (new_width, new_height) != (width, height):
        size = [new_height, new_width]
        picture = functional.resize(picture, size, InterpolationMode.BILINEAR, antialias=config.antialias)
        framed = functional.resize(framed, size)
    if augmentation.flip:
        picture, framed = functional.horizontal_flip(picture), functional.horizontal_flip(framed)
    moved = functional.clamp_bounding_boxes(framed).as_subclass(Tensor)
    kept = ((moved[:, 2:] - moved[:, :2]) >= SMALLEST_SIDE).all(1)
    return picture.as_subclass(Tensor), moved[kept], labels[kept]


def normalise(image: Tensor, out: Tensor | None = None) -> Tensor:
    """RGB (3,H,W) in 0..255 -> float32 with the statistics of ImageNet, written to ``out`` if given."""
    out = torch.empty(image.shape, dtype=torch.float32, device=image.device) if out is None else out
    mean = torch.tensor(MEAN, device=image.device).view(3, 1, 1)
    std = torch.tensor(STD, device=image.device).view(3, 1, 1)
    return out.copy_(image).sub_(mean).div_(std)
