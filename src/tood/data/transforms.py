"""Image transforms of network inputs: crop, keep-ratio resize and flip (with the boxes), colours."""

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from tood.data.augmentation import Augmentation, distort_colours
from tood.data.input_sizes import SMALLEST_SIDE, resized_size
from tood.io.errors import UserError


def transform(
    image: Tensor,
    boxes: Tensor,
    labels: Tensor,
    augmentation: Augmentation,
    *,
    antialias: bool,
    opencv: bool = False,
    whole: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Crop, resize, mirror and distort an image (3,H,W) uint8 with its boxes (n,4) xyxy px and labels (n,).

    Returns the three for the new size. Bilinear with half-pixel centres, with ``opencv`` in its fixed-point
    arithmetic. Boxes are scaled by the factors of the rounded size and clipped to the image; those left below 1 px in
    width or height are dropped with their labels, and after a crop those whose centre is outside. An image that was
    decoded at a part of its size has its boxes in px of the ``whole`` (width, height), and cannot be cropped.
    """
    picture, framed, labels = _cropped(image, boxes, labels, augmentation, whole)
    height, width = framed.canvas_size
    new_width, new_height = resized_size(width, height, augmentation.bounds)
    if (new_width, new_height) != (width, height):
        size = [new_height, new_width]
        if opencv:
            picture = tv_tensors.Image(_resized_by_opencv(picture, new_width, new_height))
        else:
            picture = functional.resize(picture, size, InterpolationMode.BILINEAR, antialias=antialias)
        framed = functional.resize(framed, size)
    if augmentation.flip:
        picture, framed = functional.horizontal_flip(picture), functional.horizontal_flip(framed)
    moved = functional.clamp_bounding_boxes(framed).as_subclass(Tensor)
    kept = ((moved[:, 2:] - moved[:, :2]) >= SMALLEST_SIDE).all(1)
    pixels = picture.as_subclass(Tensor)
    if augmentation.colours is not None:
        pixels = distort_colours(pixels, augmentation.colours)
    return pixels, moved[kept], labels[kept]


def _resized_by_opencv(picture: Tensor, width: int, height: int) -> Tensor:
    """(3,H,W) uint8 -> (3,height,width); UserError where OpenCV is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise UserError("images.resize: 'opencv' needs OpenCV; install it with: pip install '.[opencv]'") from error
    cv2.setNumThreads(1)  # there are processes enough
    pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(resized).permute(2, 0, 1).contiguous()


def _cropped(
    image: Tensor, boxes: Tensor, labels: Tensor, augmentation: Augmentation, whole: tuple[int, int] | None
) -> tuple[tv_tensors.Image, tv_tensors.BoundingBoxes, Tensor]:
    width, height = whole or (image.shape[-1], image.shape[-2])
    picture = tv_tensors.Image(image)
    framed = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))
    if augmentation.crop is None:
        return picture, framed, labels
    left, top, width, height = augmentation.crop
    start = torch.tensor([left, top])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centres > start) & (centres < start + torch.tensor([width, height]))).all(1)
    kept = tv_tensors.wrap(boxes[inside], like=framed)
    part, kept = (functional.crop(one, top, left, height, width) for one in (picture, kept))
    return part, kept, labels[inside]
