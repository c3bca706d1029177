"""Detections in one picture, as evaluation makes them: resized as a whole, or cut into tiles.

What computes is a trained model or an exported file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from tood.config.datasets import TileConfig
from tood.config.images import ImagesConfig
from tood.config.method import InferenceConfig
from tood.data.augmentation import bounds_to_decode_for, no_augmentation
from tood.data.batch import collate
from tood.data.dataset import Sample
from tood.data.decode import Decoded, decode_for, decode_image
from tood.data.network_input import NetworkInput
from tood.data.tiles import tile_windows
from tood.data.transforms import transform
from tood.detection.folding import keep_folded
from tood.detection.postprocess import Detections
from tood.evaluation.detections import TILES_TOGETHER, detect_batch
from tood.evaluation.graphed_detections import GraphedDetections, graphed_detections
from tood.evaluation.tile_merging import merge_tiles
from tood.weights.model_file import DetectionModel


class Finder(Protocol):
    """A detector that is ready to be given pictures."""

    @property
    def method(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def category_ids(self) -> tuple[int, ...]: ...
    @property
    def tile(self) -> TileConfig | None:
        """What it was trained on."""
        ...

    @property
    def inference(self) -> InferenceConfig: ...
    @property
    def images(self) -> ImagesConfig:
        """How pictures are resized."""
        ...

    def find(self, pictures: Sequence[Decoded]) -> list[Detections]:
        """The detections in each of some pictures of one size, in px of the whole picture; on the CPU."""
        ...


@dataclass(frozen=True)
class ModelFinder:
    """A trained model on a device."""

    model: DetectionModel
    device: torch.device
    graphs: GraphedDetections | None

    @classmethod
    def on(cls, device: torch.device, model: DetectionModel) -> Self:
        """The model is moved to the device; its weights must not change afterwards."""
        keep_folded(model.detector.on(device))
        given = model.network_input
        return cls(model, device, graphed_detections(model.detector, given.pixels, model.method.inference, device))

    @property
    def method(self) -> str:
        return self.model.method.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @property
    def category_ids(self) -> tuple[int, ...]:
        return self.model.category_ids

    @property
    def tile(self) -> TileConfig | None:
        return self.model.tile

    @property
    def inference(self) -> InferenceConfig:
        return self.model.method.inference

    @property
    def images(self) -> ImagesConfig:
        return self.model.network_input.images

    def find(self, pictures: Sequence[Decoded]) -> list[Detections]:
        given = self.model.network_input
        batch = collate([as_sample(picture, 0, given) for picture in pictures], given.pixels)
        return detect_batch(self.model.detector, batch, given.pixels, self.device, self.inference, self.graphs)


def detect_in_file(finder: Finder, path: Path, tile: TileConfig | None, pixels: Tensor | None = None) -> Detections:
    """Detections in the image at ``path``, whose ``pixels`` (3,H,W) may be given, in pixels of the picture.

    Raises UserError where it cannot be decoded.
    """
    return detect_in_picture(finder, read_for(finder, path, tile, pixels), tile)


def read_for(finder: Finder, path: Path, tile: TileConfig | None, pixels: Tensor | None = None) -> Decoded:
    """The image at ``path`` as a detector takes it.

    Where it is resized as a whole with antialiasing, a large JPEG is decoded at a part of its size, also if its
    ``pixels`` are given.
    """
    bounds = bounds_to_decode_for(finder.images, no_augmentation(finder.images)) if tile is None else None
    if bounds is not None:
        return decode_for(path, bounds)
    pixels = decode_image(path) if pixels is None else pixels
    return Decoded(pixels, (pixels.shape[2], pixels.shape[1]))


def detect_in_pictures(finder: Finder, pictures: Sequence[Decoded], tile: TileConfig | None) -> list[Detections]:
    """Detections in pictures of one size, computed together; with tiles those of one picture."""
    if tile is None:
        return finder.find(pictures)
    return [detect_in_picture(finder, picture, tile) for picture in pictures]


def detect_in_picture(finder: Finder, picture: Decoded, tile: TileConfig | None) -> Detections:
    """Detections in a picture, which is whole where it is cut into tiles."""
    if tile is None:
        return finder.find([picture])[0]
    windows = torch.from_numpy(tile_windows(*picture.size, tile))
    found: list[Detections] = []
    for some in windows.split(TILES_TOGETHER):
        found += finder.find([Decoded(picture.pixels[:, y : y + h, x : x + w], (w, h)) for x, y, w, h in some.tolist()])
    return merge_tiles(found, windows, finder.inference)


def as_sample(picture: Decoded, image_id: int, config: NetworkInput) -> Sample:
    """A network input from a decoded image, as evaluation makes it."""
    no_boxes, no_labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    images = config.images
    resized, boxes, labels = transform(
        picture.pixels,
        no_boxes,
        no_labels,
        no_augmentation(images),
        antialias=images.antialias,
        opencv=images.resize == "opencv",
        whole=picture.size,
    )
    width, height = picture.size
    return Sample(resized, (height, width), image_id, boxes, labels)
