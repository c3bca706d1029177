"""Detecting in one picture, whole or in tiles, with whatever computes: a loaded model or an exported file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from tood.config.datasets import TileConfig
from tood.config.images import ImagesConfig
from tood.config.method import InferenceConfig
from tood.data.augmentation import bounds_to_decode_for, no_augmentation
from tood.data.decode import Decoded, decode_for, decode_image
from tood.data.tiles import tile_windows
from tood.detection.postprocess import Detections
from tood.evaluation.detections import TILES_TOGETHER
from tood.evaluation.tile_merging import merge_tiles


class Finder(Protocol):
    """A detector and how it is used."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def category_ids(self) -> tuple[int, ...]: ...
    @property
    def tile(self) -> TileConfig | None: ...
    @property
    def inference(self) -> InferenceConfig: ...
    @property
    def images(self) -> ImagesConfig: ...

    def find(self, parts: Sequence[Decoded]) -> list[Detections]:
        """What is in each of some pictures of one size, in px of these as a whole."""
        ...


def find_objects(finder: Finder, path: Path, tile: TileConfig | None, picture: Tensor | None = None) -> Detections:
    """Detections in the picture at ``path``, which may be given decoded, (3,H,W) uint8, as evaluation makes them.

    Raises UserError where it cannot be decoded.
    """
    if tile is None:
        bounds = bounds_to_decode_for(finder.images, no_augmentation(finder.images))
        if picture is None or bounds is not None:
            return finder.find([decode_for(path, bounds)])[0]
        return finder.find([Decoded(picture, (picture.shape[2], picture.shape[1]))])[0]
    picture = decode_image(path) if picture is None else picture
    windows = torch.from_numpy(tile_windows(picture.shape[2], picture.shape[1], tile))
    found: list[Detections] = []
    for some in windows.split(TILES_TOGETHER):
        found += finder.find([Decoded(picture[:, y : y + h, x : x + w], (w, h)) for x, y, w, h in some.tolist()])
    return merge_tiles(found, windows, finder.inference)
