"""Torch dataset of network inputs: the images of a split, resized, and augmented in training."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tood.config.schedule import RepeatConfig
from tood.data.augmentation import Augmentation, Visit, bounds_to_decode_for, draw_augmentation, no_augmentation
from tood.data.decode import Decoded, decode_for
from tood.data.epoch_plan import repeat_factors, visits_of
from tood.data.input_sizes import Bounds, bounds_drawn, plain_bounds, resized_size, resized_sizes
from tood.data.network_input import NetworkInput
from tood.data.training_targets import TrainingTargets
from tood.data.transforms import transform
from tood.io.errors import UserError


@dataclass(frozen=True, eq=False)
class Sample:
    """One network input, not yet normalised and padded."""

    image: Tensor
    """(3,h,w) uint8 RGB, resized."""
    original_size: tuple[int, int]
    """(height, width) px before resizing."""
    image_id: int
    boxes: Tensor
    """(n,4) float32 xyxy px of the resized image."""
    labels: Tensor
    """(n,) int64"""


class DetectionDataset(Dataset[Sample]):
    """Images of a split by position; with ``train`` they are augmented by (seed, visit, image id) alone.

    With ``repeat`` images of rare classes are seen several times an epoch. Images may be tiles of pictures; without
    ``train`` the last picture is kept, so that tiles in their order decode it once.
    """

    def __init__(
        self,
        targets: TrainingTargets,
        images: Path,
        config: NetworkInput,
        *,
        train: bool,
        seed: int,
        repeat: RepeatConfig | None = None,
    ) -> None:
        self.targets = targets
        self.images = images
        self.config = config
        self.train = train
        self.seed = seed
        self.repeats = None if repeat is None else repeat_factors(targets, repeat.threshold)
        self._kept: tuple[Path, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, position: int) -> Sample:
        return self.sample(position, Visit())

    @property
    def visits(self) -> int:
        """Images that are seen in an epoch, repeated ones included."""
        return len(self) if self.repeats is None else visits_of(self.repeats)

    def sample(self, position: int, visit: Visit) -> Sample:
        """The image at ``position`` as it is augmented in a visit.

        Raises UserError when the file cannot be decoded or has another size than its annotations say.
        """
        augmentation = self._augmentation(position, visit)
        image, (width, height) = self._read(position, augmentation)
        boxes, labels = (torch.from_numpy(part.copy()) for part in self.targets.of_image(position))
        images = self.config.images
        resized, boxes, labels = transform(
            image,
            boxes,
            labels,
            augmentation,
            antialias=images.antialias,
            opencv=images.resize == "opencv",
            whole=(width, height),
        )
        image_id = int(self.targets.image_ids[position])
        return Sample(resized, (height, width), image_id, boxes, labels)

    def input_size(self, position: int, visit: Visit) -> tuple[int, int]:
        """(width, height) of the network input at ``position``, known without reading the file."""
        augmentation = self._augmentation(position, visit)
        width, height = self._size(position) if augmentation.crop is None else augmentation.crop[2:]
        return resized_size(width, height, augmentation.bounds)

    def largest_input_sizes(self) -> NDArray[np.int64]:
        """(I,2) the largest (width, height) that each network input can have, to the pixel."""
        images = self.config.images
        bounds = bounds_drawn(images)[1] if self.train else plain_bounds(images)
        sizes = np.stack([self.targets.widths, self.targets.heights], axis=1)
        resized = resized_sizes(sizes, bounds)
        if self.train and images.crop is not None:  # of any shape
            resized = np.full_like(resized, bounds.long)
        return resized

    def file_names_of(self, image_ids: Iterable[int]) -> list[str]:
        """The files of some images, and which tiles of them, for messages."""
        positions = {number: position for position, number in enumerate(self.targets.image_ids.tolist())}
        return [self.name_of(positions[number]) for number in image_ids]

    def name_of(self, position: int) -> str:
        """The file of the image at ``position``, and which tile of it, for messages."""
        name, tiles = str(self.targets.file_names[position]), self.targets.tiles
        if tiles is None:
            return name
        (width, height), (left, top) = self._size(position), tiles.corners[position].tolist()
        return f"{name} ({width}x{height} pixels from {left},{top})"

    def _read(self, position: int, augmentation: Augmentation) -> Decoded:
        """The image, or its part where it is a tile; perhaps at a part of its size where it is resized as a whole."""
        path = self.images / str(self.targets.file_names[position])
        tiles, (width, height) = self.targets.tiles, self._size(position)
        if tiles is None:
            return self._decode(path, (width, height), bounds_to_decode_for(self.config.images, augmentation))
        if self._kept is not None and self._kept[0] == path:
            picture = self._kept[1]
        else:
            self._kept = None  # so that there are never two pictures in memory
            expected = tiles.picture_sizes[position].tolist()
            picture = self._decode(path, (expected[0], expected[1])).pixels
            self._kept = None if self.train else (path, picture)  # in training tiles come in any order
        left, top = tiles.corners[position].tolist()
        tile = picture[:, top : top + height, left : left + width].contiguous()
        return Decoded(tile, (width, height))

    def _decode(self, path: Path, expected: tuple[int, int], bounds: Bounds | None = None) -> Decoded:
        image = decode_for(path, bounds)
        width, height = image.size
        if (width, height) != expected:
            raise UserError(
                f"{path}: is {width}x{height} pixels, but {self.targets.source} says {expected[0]}x{expected[1]}; "
                "restore the image or prepare the data set again."
            )
        return image

    def _size(self, position: int) -> tuple[int, int]:
        """(width, height) px of the image."""
        return int(self.targets.widths[position]), int(self.targets.heights[position])

    def _augmentation(self, position: int, visit: Visit) -> Augmentation:
        if not self.train:
            return no_augmentation(self.config.images)
        image_id, (boxes, _) = int(self.targets.image_ids[position]), self.targets.of_image(position)
        return draw_augmentation(self.config.images, self.seed, visit, image_id, self._size(position), boxes)
