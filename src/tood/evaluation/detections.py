"""Running a detector over a split: detections in the COCO result format."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from tood.config.backbone import PixelsConfig
from tood.config.datasets import TileConfig
from tood.config.method import InferenceConfig
from tood.data.batch import Batch
from tood.data.dataset import DetectionDataset
from tood.data.loader import Loader, Reading, reading_for, single_batches
from tood.data.network_input import NetworkInput
from tood.data.planned_batches import PassPlan
from tood.data.split_table import SplitTable
from tood.data.tiled_split import cut_into_tiles
from tood.data.training_targets import TrainingTargets
from tood.detection.detector import Detector
from tood.detection.folding import folded_once
from tood.detection.inference import detect
from tood.detection.postprocess import Detections
from tood.evaluation.graphed_detections import GraphedDetections, graphed_detections
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
    detector: Detector,
    batch: Batch,
    pixels: PixelsConfig,
    device: torch.device,
    config: InferenceConfig,
    graphs: GraphedDetections | None = None,
) -> list[Detections]:
    """Detections of one batch, in pixels of the original images, on the CPU; by the detector's ``graphs`` if given."""
    batch = batch.to(device)
    if graphs is not None:
        return graphs.detect(batch)
    batch = batch.normalised(pixels)
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


class SplitImages:
    """The share of a split's images that process ``rank`` of ``world`` detects in, at each pass the same batches.

    A context, to whose end the processes stay that read them. ``folder`` holds the images. They are processed one at a
    time: normalisation and layer attention see the padding, so only then detections do not depend on which images
    share a batch. With ``tile`` each is read in tiles.
    """

    def __init__(
        self,
        table: SplitTable,
        folder: Path,
        config: NetworkInput,
        *,
        reading: Reading,
        tile: TileConfig | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.table = table
        self.tiles = cut_into_tiles(table, tile)
        """What is read: tiles, or the images themselves."""
        self.config = config
        dataset = DetectionDataset(TrainingTargets.of(self.tiles), folder, config, train=False, seed=0)
        plan = PassPlan(dataset, batch=1 if tile is None else TILES_TOGETHER, rank=rank, world=world)
        self._steps = range(len(plan))
        self._loader = Loader(dataset, plan, replace(reading, workers=min(reading.workers, len(plan))))

    def __enter__(self) -> Self:
        self._loader.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loader.__exit__(kind, error, at)

    def batches(self) -> Generator[Batch]:
        """One pass; raises as ``Loader.read`` does."""
        return single_batches(self._loader.read(self._steps))


def detect_split(
    detector: Detector,
    table: SplitTable,
    folder: Path,
    config: NetworkInput,
    inference: InferenceConfig,
    *,
    tile: TileConfig | None = None,
    device: torch.device,
    workers: int = 0,
) -> SplitDetections:
    """Detections of a split whose images are in ``folder``; the detector is left in evaluation mode.

    With ``tile`` objects are looked for in the tiles of each image, and what is found in them is merged.
    """
    with (
        reading_for(device, workers) as reading,
        SplitImages(table, folder, config, reading=reading, tile=tile) as images,
    ):
        return detect_in(detector, images, inference, device=device)


def detect_in(
    detector: Detector,
    images: SplitImages,
    inference: InferenceConfig,
    *,
    device: torch.device,
    before_each: Callable[[], None] = lambda: None,
) -> SplitDetections:
    """Detections of this process's share of a split; the detector is left in evaluation mode."""
    detector.eval()
    categories = images.table.category_ids.tolist()
    results: list[dict[str, Any]] = []
    times: list[float] = []
    picture = _Picture(images.tiles, inference)
    graphs = graphed_detections(detector, images.config.pixels, inference, device)
    with closing(images.batches()) as batches, folded_once(detector):
        for batch in batches:
            before_each()
            started = time.perf_counter()
            found = detect_batch(detector, batch, images.config.pixels, device, inference, graphs)
            complete = picture.add(batch.image_ids.tolist(), found)
            picture.seconds += time.perf_counter() - started
            if complete is not None:
                picture_id, whole = complete
                results += as_coco_results([whole], [picture_id], categories)
                times.append(picture.seconds)
                picture = _Picture(images.tiles, inference)
    counted = times if len(images.table.image_ids) == 1 else times[1:]  # the first image includes the start-up time
    return SplitDetections(results, len(counted), sum(counted))


def write_results(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """A COCO result file."""
    write_json(path, list(results), indent=None)
