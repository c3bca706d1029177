"""Running a detector over a split: detections in the COCO result format."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tood.config.backbone import PixelsConfig
from tood.config.datasets import TileConfig
from tood.config.method import InferenceConfig
from tood.data.batch import Batch
from tood.data.dataset import DetectionDataset
from tood.data.loader import test_batches
from tood.data.network_input import NetworkInput
from tood.data.split_table import SplitTable
from tood.data.tiled_split import cut_into_tiles
from tood.data.training_targets import TrainingTargets
from tood.detection.detector import Detector
from tood.detection.inference import detect
from tood.detection.postprocess import Detections
from tood.evaluation.tile_merging import merge_tiles
from tood.io.write import write_json

TILES_TOGETHER = 4
"""Tiles of a picture, which all have the same size, that are detected in at a time."""


def as_coco_results(
    detections: Sequence[Detections], image_ids: Sequence[int], categories: Sequence[int]
) -> list[dict[str, Any]]:
    """COCO results (xywh boxes, category ids) of detections in original image pixels."""
    results: list[dict[str, Any]] = []
    for found, image_id in zip(detections, image_ids, strict=True):
        corners = found.boxes.double().numpy()
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).round(4).tolist()
        labels, scores = found.labels.tolist(), found.scores.double().tolist()
        results.extend(
            {"image_id": image_id, "category_id": categories[label], "bbox": box, "score": score}
            for box, score, label in zip(boxes, scores, labels, strict=True)
        )
    return results


@dataclass(frozen=True)
class SplitDetections:
    """COCO results of a split, and the seconds that inference took for ``images`` of its images.

    Decoding and resizing are not in the seconds.
    """

    results: list[dict[str, Any]]
    images: int
    seconds: float


def detect_batch(
    detector: Detector, batch: Batch, pixels: PixelsConfig, device: torch.device, config: InferenceConfig
) -> list[Detections]:
    """Detections of one batch, in pixels of the original images, on the CPU."""
    batch = batch.to(device).normalised(pixels)
    found = detect(detector, batch.images, batch.sizes, batch.scales, config)
    return [Detections(one.boxes.cpu(), one.scores.cpu(), one.labels.cpu()) for one in found]


@dataclass
class _Picture:
    """The picture whose tiles are detected in; without tiles each image is one."""

    split: SplitTable
    inference: InferenceConfig
    found: list[Detections] = field(default_factory=list)
    """In its tiles so far."""
    seconds: float = 0.0

    def add(self, image_ids: Sequence[int], found: Sequence[Detections]) -> tuple[int, Detections] | None:
        """The id and the detections of the picture, once those of its last tile are given."""
        self.found += found
        tiles = self.split.tiles
        if tiles is None:
            return image_ids[0], self.found[0]
        end = int(np.searchsorted(self.split.image_ids, image_ids[-1])) + 1
        picture_id = int(tiles.picture_ids[end - 1])
        if end < len(tiles) and tiles.picture_ids[end] == picture_id:
            return None
        own = tiles.take(np.arange(end - len(self.found), end))
        return picture_id, merge_tiles(self.found, torch.from_numpy(own.windows), self.inference)


def detect_split(
    detector: Detector,
    table: SplitTable,
    folder: Path,
    config: NetworkInput,
    inference: InferenceConfig,
    *,
    tile: TileConfig | None = None,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    before_each: Callable[[], None] = lambda: None,
) -> SplitDetections:
    """Detections of this process's share of a split; the detector is left in evaluation mode.

    ``folder`` holds the split's images. They are processed one at a time: normalisation and layer attention see the
    padding, so only then detections do not depend on which images share a batch. With ``tile`` that is done in the
    tiles of each, and what is found in them is merged.
    """
    detector.eval()
    split = cut_into_tiles(table, tile)
    dataset = DetectionDataset(TrainingTargets.of(split), folder, config, train=False, seed=0)
    categories = table.category_ids.tolist()
    results: list[dict[str, Any]] = []
    times: list[float] = []
    together = 1 if tile is None else TILES_TOGETHER
    pin_memory = device.type == "cuda"
    batches = test_batches(dataset, batch=together, rank=rank, world=world, workers=workers, pin_memory=pin_memory)
    picture = _Picture(split, inference)
    with closing(batches):
        for batch in batches:
            before_each()
            started = time.perf_counter()
            found = detect_batch(detector, batch, config.pixels, device, inference)
            complete = picture.add(batch.image_ids.tolist(), found)
            picture.seconds += time.perf_counter() - started
            if complete is not None:
                picture_id, whole = complete
                results += as_coco_results([whole], [picture_id], categories)
                times.append(picture.seconds)
                picture = _Picture(split, inference)
    counted = times if len(table.image_ids) == 1 else times[1:]  # the first image includes the start-up time
    return SplitDetections(results, len(counted), sum(counted))


def write_results(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """A COCO result file."""
    write_json(path, list(results), indent=None)
