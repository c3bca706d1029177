"""Alignment analysis of a whole split: one pass of the detector without NMS."""

import math
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tood.config.datasets import TileConfig
from tood.config.method import InferenceConfig
from tood.data.batch import Batch
from tood.data.dataset import DetectionDataset
from tood.data.loader import reading_for, test_batches
from tood.data.network_input import NetworkInput
from tood.data.split_table import SplitTable
from tood.data.tiled_split import cut_into_tiles
from tood.data.tiles import Tiles
from tood.data.training_targets import TrainingTargets
from tood.detection.boxes import clip_boxes
from tood.detection.detector import Detector
from tood.detection.number_format import number_format
from tood.detection.predictions import Predictions
from tood.evaluation.alignment_files import IOU_BINS, SCORE_BINS, BestAnchors, SplitAlignment
from tood.evaluation.alignment_measures import ObjectAlignment, align_objects
from tood.evaluation.ground_truth import Objects
from tood.evaluation.samples import sampled_positions


@dataclass
class _Tally:
    """Sums over images: two numbers for each object, the histogram, the best anchors of sample images."""

    correlations: list[float] = field(default_factory=list)
    top_ious: list[float] = field(default_factory=list)
    density: Tensor = field(default_factory=lambda: torch.zeros(SCORE_BINS * IOU_BINS, dtype=torch.int64))
    best: list[BestAnchors] = field(default_factory=list)

    def add(self, found: ObjectAlignment) -> None:
        self.correlations += found.correlation.tolist()
        self.top_ious += found.top_iou.tolist()
        rows, columns = (
            (values[found.valid] * bins).long().clamp(0, bins - 1)
            for values, bins in ((found.scores, SCORE_BINS), (found.ious, IOU_BINS))
        )
        self.density += torch.bincount(rows * IOU_BINS + columns, minlength=SCORE_BINS * IOU_BINS).cpu()


def analyse_split(
    detector: Detector,
    table: SplitTable,
    folder: Path,
    config: NetworkInput,
    inference: InferenceConfig,
    *,
    tile: TileConfig | None = None,
    device: torch.device,
    workers: int = 0,
) -> SplitAlignment:
    """Measure the alignment of score and IoU on a split; the detector is left in evaluation mode.

    ``folder`` holds the images of the split. One image at a time and with the boxes clipped where inference clips
    them, so that the predictions are those behind the detections. With ``tile`` each tile is measured by itself: an
    object counts in every tile that has it, as it is seen there.
    """
    detector.eval()
    split = cut_into_tiles(table, tile)
    dataset = DetectionDataset(TrainingTargets.of(split), folder, config, train=False, seed=0)
    every, sampled = Objects.of(split), _in_sampled(table, split.tiles)
    tally = _Tally()
    with (
        reading_for(device, workers) as reading,
        closing(test_batches(dataset, batch=1, rank=0, world=1, reading=reading)) as batches,
    ):
        for batch in batches:
            position = int(np.searchsorted(split.image_ids, int(batch.image_ids)))
            objects, labels = _objects(every, position)
            given = batch.to(device).normalised(config.pixels)
            _analyse_image(detector, given, objects, labels, inference, tally, sampled=position in sampled)
    return SplitAlignment(
        images=len(table.image_ids),
        objects=len(tally.correlations),
        pcc_top50=_mean(tally.correlations),
        objects_with_pcc=_defined(tally.correlations),
        iou_top10=_mean(tally.top_ious),
        objects_with_iou=_defined(tally.top_ious),
        density=tally.density.reshape(SCORE_BINS, IOU_BINS).numpy(),
        best=_joined(tally.best) if split.tiles is None else _in_pictures(_joined(tally.best), split, split.tiles),
    )


@torch.inference_mode()
def _analyse_image(
    detector: Detector,
    batch: Batch,
    objects: Tensor,
    labels: Tensor,
    inference: InferenceConfig,
    tally: _Tally,
    *,
    sampled: bool,
) -> None:
    """One image, in network pixels; ``objects`` (G,4) are in those of the original image."""
    with number_format(inference.precision, batch.images.device):
        predictions = detector(batch.images)
    boxes = predictions.boxes[0]
    if inference.clip_boxes:
        boxes = clip_boxes(boxes, batch.sizes[0])
    scale = batch.scales[0].repeat(2).to(boxes.dtype)
    found = align_objects(final_scores(predictions)[0], boxes, objects.to(boxes) * scale, labels.to(boxes.device))
    tally.add(found)
    if sampled:
        kept = found.valid[:, 0]
        anchors = found.anchors[kept]
        tally.best.append(
            BestAnchors(
                image_ids=np.full(len(anchors), int(batch.image_ids), np.int64),
                objects=_array(objects[kept.cpu()]),
                points=_array(predictions.points.centres[anchors] / scale[:2]),
                boxes=_array(boxes[anchors] / scale),
                scores=_array(found.anchor_scores[kept]),
                ious=_array(found.anchor_ious[kept]),
            )
        )


def final_scores(predictions: Predictions) -> Tensor:
    """(B,N,C) the scores by which detections are ranked: the class score, times the quality where there is one."""
    scores = predictions.scores()
    return scores if predictions.quality is None else scores * predictions.quality.sigmoid()[..., None]


def _objects(every: Objects, position: int) -> tuple[Tensor, Tensor]:
    """Boxes (G,4) xyxy px of the original image and labels (G,) of an image's objects, crowds left out."""
    boxes, labels = every.of_image(position)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return torch.from_numpy(corners).float(), torch.from_numpy(labels)


def _array(values: Tensor) -> NDArray[np.float32]:
    return values.float().cpu().numpy()


def _mean(values: list[float]) -> float | None:
    """Mean of the defined values, the same in whatever order they come."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else None


def _defined(values: list[float]) -> int:
    return sum(not math.isnan(value) for value in values)


def _joined(parts: list[BestAnchors]) -> BestAnchors:
    names = [one.name for one in fields(BestAnchors)]
    return BestAnchors(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _in_sampled(table: SplitTable, tiles: Tiles | None) -> set[int]:
    """Positions of the sample images, or of all their tiles."""
    positions = sampled_positions(table)
    if tiles is None:
        return set(positions)
    return set(np.flatnonzero(np.isin(tiles.picture_ids, table.image_ids[positions])).tolist())


def _in_pictures(best: BestAnchors, split: SplitTable, tiles: Tiles) -> BestAnchors:
    """Anchors in the tiles of a split as anchors in their pictures."""
    positions = np.searchsorted(split.image_ids, best.image_ids)
    corners = tiles.corners[positions].astype(np.float32)
    twice = np.tile(corners, 2)
    return replace(
        best,
        image_ids=tiles.picture_ids[positions],
        objects=best.objects + twice,
        points=best.points + corners[:, None],
        boxes=best.boxes + twice[:, None],
    )
