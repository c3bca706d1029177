"""Detections in one picture, as evaluation makes them: resized as a whole, or cut into tiles."""

from pathlib import Path

import torch

from tood.config.datasets import TileConfig
from tood.data.augmentation import bounds_to_decode_for, no_augmentation
from tood.data.batch import collate
from tood.data.dataset import Sample
from tood.data.decode import Decoded, decode_for
from tood.data.network_input import NetworkInput
from tood.data.tiles import tile_windows
from tood.data.transforms import transform
from tood.detection.postprocess import Detections
from tood.evaluation.detections import TILES_TOGETHER, detect_batch
from tood.evaluation.graphed_detections import GraphedDetections
from tood.evaluation.tile_merging import merge_tiles
from tood.weights.model_file import DetectionModel


def detect_in_file(
    model: DetectionModel,
    path: Path,
    picture: torch.Tensor,
    tile: TileConfig | None,
    device: torch.device,
    graphs: GraphedDetections | None = None,
) -> Detections:
    """Detections in the image at ``path``, whose pixels are ``picture`` (3,H,W), in pixels of the picture.

    Where it is resized as a whole with antialiasing, a large JPEG is decoded again, at a part of its size.
    """
    height, width = picture.shape[-2:]
    images = model.network_input.images
    bounds = bounds_to_decode_for(images, no_augmentation(images)) if tile is None else None
    read = Decoded(picture, (width, height)) if bounds is None else decode_for(path, bounds)
    return detect_in_picture(model, read, tile, device, graphs)


def detect_in_picture(
    model: DetectionModel,
    picture: Decoded,
    tile: TileConfig | None,
    device: torch.device,
    graphs: GraphedDetections | None = None,
) -> Detections:
    """Detections in a picture, which is whole where it is cut into tiles; on the CPU. By the model's ``graphs``."""
    given, inference = model.network_input, model.method.inference
    if tile is None:
        batch = collate([as_sample(picture, 0, given)], given.pixels)
        return detect_batch(model.detector, batch, given.pixels, device, inference, graphs)[0]
    windows = torch.from_numpy(tile_windows(*picture.size, tile))
    found: list[Detections] = []
    for some in windows.split(TILES_TOGETHER):
        parts = [Decoded(picture.pixels[:, y : y + h, x : x + w], (w, h)) for x, y, w, h in some.tolist()]
        batch = collate([as_sample(part, 0, given) for part in parts], given.pixels)
        found += detect_batch(model.detector, batch, given.pixels, device, inference, graphs)
    return merge_tiles(found, windows, inference)


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
