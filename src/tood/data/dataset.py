"""Torch dataset of network inputs: the images of a split, resized, and augmented in training."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tood.config.schedule import ImagesConfig
from tood.data.decode import decode_image
from tood.data.input_sizes import resized_size, resized_sizes, sizes_drawn
from tood.data.training_targets import TrainingTargets
from tood.data.transforms import (
    Augmentation,
    draw_augmentation,
    no_augmentation,
    transform,
)
from tood.io.errors import UserError


@dataclass(frozen=True, eq=False)
class Sample:
    """One network input, not yet normalised and padded."""

    image: Tensor
    """(3,h,w) uint8 RGB, resized."""
    original_size: tuple[int, int]
    """(height, width) px of the file."""
    image_id: int
    boxes: Tensor
    """(n,4) float32 xyxy px of the resized image."""
    labels: Tensor
    """(n,) int64"""


class DetectionDataset(Dataset[Sample]):
    """Images of a split by position; with ``train`` they are augmented by (seed, epoch, image id) alone."""

    def __init__(self, targets: TrainingTargets, images: Path, config: ImagesConfig, *, train: bool, seed: int) -> None:
        self.targets = targets
        self.images = images
        self.config = config
        self.train = train
        self.seed = seed

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, position: int) -> Sample:
        return self.sample(position, epoch=0)

    def sample(self, position: int, epoch: int) -> Sample:
        """The image at ``position`` as it is augmented in ``epoch``.

        Raises UserError when the file cannot be decoded or has another size than its annotations say.
        """
        path = self.images / str(self.targets.file_names[position])
        size = (int(self.targets.widths[position]), int(self.targets.heights[position]))
        image = decode_image(path)
        height, width = image.shape[-2:]
        if (width, height) != size:
            raise UserError(
                f"{path}: is {width}x{height} pixels, but {self.targets.source} says {size[0]}x{size[1]}; "
                "restore the image or prepare the data set again."
            )
        boxes, labels = (torch.from_numpy(part.copy()) for part in self.targets.of_image(position))
        resized, boxes, labels = transform(image, boxes, labels, self._augmentation(position, epoch), self.config)
        image_id = int(self.targets.image_ids[position])
        return Sample(resized, (height, width), image_id, boxes, labels)

    def input_size(self, position: int, epoch: int) -> tuple[int, int]:
        """(width, height) of the network input at ``position``, known without reading the file."""
        short = self._augmentation(position, epoch).short
        width, height = int(self.targets.widths[position]), int(self.targets.heights[position])
        return resized_size(width, height, short, self.config.long)

    def largest_input_sizes(self) -> NDArray[np.int64]:
        """(I,2) the largest (width, height) that each network input can have, to the pixel."""
        short = sizes_drawn(self.config)[1] if self.train else self.config.short
        sizes = np.stack([self.targets.widths, self.targets.heights], axis=1)
        return resized_sizes(sizes, short, self.config.long)

    def file_names_of(self, image_ids: Iterable[int]) -> list[str]:
        """The files of some images, for messages."""
        positions = {number: position for position, number in enumerate(self.targets.image_ids.tolist())}
        return [str(self.targets.file_names[positions[number]]) for number in image_ids]

    def _augmentation(self, position: int, epoch: int) -> Augmentation:
        if not self.train:
            return no_augmentation(self.config)
        return draw_augmentation(self.config, self.seed, epoch, int(self.targets.image_ids[position]))
