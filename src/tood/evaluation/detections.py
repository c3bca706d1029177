"""Running a detector over a split: detections in the COCO result format."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tood.config.method import InferenceConfig
from tood.data.dataset import DetectionDataset
from tood.data.loader import Batch, test_batches
from tood.data.network_input import NetworkInput
from tood.data.split_table import SplitTable
from tood.data.training_targets import TrainingTargets
from tood.detection.detector import Detector
from tood.detection.inference import detect
from tood.detection.postprocess import Detections
from tood.io.write import write_json


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


def detect_batch(detector: Detector, batch: Batch, device: torch.device, config: InferenceConfig) -> list[Detections]:
    """Detections of one batch, in pixels of the original images, on the CPU."""
    batch = batch.to(device)
    found = detect(detector, batch.images, batch.sizes, batch.scales, config)
    return [Detections(one.boxes.cpu(), one.scores.cpu(), one.labels.cpu()) for one in found]


def detect_split(
    detector: Detector,
    table: SplitTable,
    folder: Path,
    config: NetworkInput,
    inference: InferenceConfig,
    *,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    before_each: Callable[[], None] = lambda: None,
) -> SplitDetections:
    """Detections of this process's share of a split; the detector is left in evaluation mode.

    ``folder`` holds the split's images. They are processed one at a time: normalisation and layer attention see the
    padding, so only then detections do not depend on which images share a batch.
    """
    detector.eval()
    dataset = DetectionDataset(TrainingTargets.of(table), folder, config, train=False, seed=0)
    categories = table.category_ids.tolist()
    results: list[dict[str, Any]] = []
    count, seconds = 0, 0.0
    batches = test_batches(dataset, batch=1, rank=rank, world=world, workers=workers, pin_memory=device.type == "cuda")
    with closing(batches):
        for number, batch in enumerate(batches):
            before_each()
            started = time.perf_counter()
            found = detect_batch(detector, batch, device, inference)
            if number or len(dataset) == 1:  # the first image includes the start-up time
                seconds += time.perf_counter() - started
                count += len(found)
            results += as_coco_results(found, batch.image_ids.tolist(), categories)
    return SplitDetections(results, count, seconds)


def write_results(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """A COCO result file."""
    write_json(path, list(results), indent=None)
