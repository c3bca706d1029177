"""Which locations a method gives to which object of a picture, before and after its training."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tood.config.backbone import PixelsConfig
from tood.data.batch import collate
from tood.data.dataset import DetectionDataset
from tood.detection.criteria.base import Criterion
from tood.detection.detector import Detector
from tood.detection.points import valid_points
from tood.detection.targets import Targets
from tood.detection.training_batch import Progress, TrainingBatch


@dataclass(frozen=True, eq=False)
class AssignmentView:
    """What one picture's locations are trained to detect at one moment of a training."""

    moment: str
    boxes: NDArray[np.float64]
    """(G,4) objects, xyxy px of the picture."""
    labels: NDArray[np.int64]
    """(G,)"""
    locations: pd.DataFrame
    """A row for each positive location: object, stride, x, y (px of the picture), metric, target, iou."""


@torch.no_grad()
def view_assignment(
    detector: Detector,
    criterion: Criterion,
    dataset: DetectionDataset,
    position: int,
    pixels: PixelsConfig,
    progress: Progress,
    moment: str,
) -> AssignmentView:
    """The assignment of the image at ``position``, as it is seen without augmentation, alone in its step."""
    detector.eval()
    sample = dataset[position]
    batch = collate([sample], pixels)
    predictions = detector(batch.images)
    targets = Targets(batch.boxes, batch.labels, batch.valid)
    valid = valid_points(predictions.points, batch.sizes)
    found = criterion.assign(TrainingBatch(predictions, targets, valid, progress))
    positive = found.positive[0]
    scale = batch.scales[0].double()
    centres = predictions.points.centres[positive].double() / scale
    rows = pd.DataFrame(
        {
            "object": found.gt_index[0, positive].numpy(),
            "stride": predictions.points.strides[positive].numpy().astype(np.int64),
            "x": centres[:, 0].numpy(),
            "y": centres[:, 1].numpy(),
            "metric": found.metric[0, positive].double().numpy(),
            "target": found.target[0, positive].double().numpy(),
            "iou": found.iou[0, positive].double().numpy(),
        }
    )
    boxes = sample.boxes.double() / scale.repeat(2)
    return AssignmentView(moment, boxes.numpy(), sample.labels.numpy(), rows)
