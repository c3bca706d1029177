"""Detections by CUDA graphs: one launch from bytes to slots of detections, where launching takes longer than computing.

A graph is for batches of the same shape; where there is none, a batch is computed as without. The network's kernels
read the weights where they are, so a graph lives no longer than they stay there: for one evaluation.
"""

import logging
from functools import partial

import torch
from torch import Tensor

from tood.config.backbone import PixelsConfig
from tood.config.method import InferenceConfig
from tood.data.batch import Batch
from tood.detection.cuda_graphs import Graphs, NotRepeatableError, Recorder, recorder_on
from tood.detection.deformable import captures_in_graph
from tood.detection.detector import Detector
from tood.detection.inference import detect
from tood.detection.number_format import number_format
from tood.detection.postprocess import Detections, in_original_pixels, read_slots
from tood.detection.predictions import Predictions
from tood.detection.slots import detection_slots

TOLERANCE = 1e-2
"""By which a graph's logits, boxes (px) and scores may differ from what it was recorded from, also as a share."""

log = logging.getLogger(__name__)


def graphed_detections(
    detector: Detector, pixels: PixelsConfig, config: InferenceConfig, device: torch.device
) -> "GraphedDetections | None":
    """None on a CPU, where graphs are switched off, and for a detector that they cannot hold."""
    recorder = recorder_on(device)
    if recorder is None or not captures_in_graph(detector):
        return None
    return GraphedDetections(detector, pixels, config, recorder)


class GraphedDetections:
    """Detects as ``tood.detection.inference.detect`` does, by a graph where there is one.

    The detector must be in evaluation mode, and keep its weights.
    """

    def __init__(self, detector: Detector, pixels: PixelsConfig, config: InferenceConfig, recorder: Recorder) -> None:
        self._detector, self._pixels, self._config, self._recorder = detector, pixels, config, recorder
        self._graphs: Graphs[_GraphedBatch] = Graphs(recorder, log, logging.DEBUG)

    @torch.inference_mode()
    def detect(self, batch: Batch) -> list[Detections]:
        """Detections of a batch on the device, whose images need not be normalised, in original pixels."""
        record = partial(_GraphedBatch, self._detector, batch, self._pixels, self._config, self._recorder)
        count, _, height, width = batch.images.shape
        name = f"the detection of {count} x {height} x {width} px"
        graph = self._graphs.find((batch.images.shape, batch.images.dtype), record, name)
        if graph is not None:
            return graph.detect(batch)
        batch = batch.normalised(self._pixels)
        return detect(self._detector, batch.images, batch.sizes, batch.scales, self._config)


class _GraphedBatch:
    """The graph of batches of one shape. NotRepeatableError if it does not compute what it was recorded from."""

    def __init__(
        self, detector: Detector, batch: Batch, pixels: PixelsConfig, config: InferenceConfig, recorder: Recorder
    ) -> None:
        self._detector, self._pixels, self._config = detector, pixels, config
        self._batch = batch.clone()
        expected = recorder.beside(self._compute)
        self._recording = recorder.record(self._compute)
        self._recording.replay()
        if not _alike(self._recording.outputs, expected):
            raise NotRepeatableError("the graph finds other detections")

    def detect(self, batch: Batch) -> list[Detections]:
        own = self._batch
        for mine, given in ((own.images, batch.images), (own.sizes, batch.sizes), (own.scales, batch.scales)):
            mine.copy_(given)
        self._recording.replay()
        return read_slots(*self._recording.outputs, self._config)

    def _compute(self) -> tuple[Predictions, Tensor]:
        batch, config = self._batch.normalised(self._pixels), self._config
        with number_format(config.precision, batch.images.device):
            predictions = self._detector(batch.images)
        predictions = in_original_pixels(predictions, batch.sizes, batch.scales, config)
        return predictions, detection_slots(predictions, config)


def _alike(found: tuple[Predictions, Tensor], expected: tuple[Predictions, Tensor]) -> bool:
    """By what rounding changes little: it may exchange detections that score nearly the same."""
    pairs = zip(_compared(*found), _compared(*expected), strict=True)
    return all(torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True) for one, other in pairs)


def _compared(predictions: Predictions, slots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return predictions.class_logits, predictions.boxes, slots[:, :-1, 4]
