"""Inference: from images to detections, shared by evaluation, prediction and the Python API."""

import torch
from torch import Tensor

from tood.config.method import InferenceConfig
from tood.detection.detector import Detector
from tood.detection.number_format import number_format
from tood.detection.postprocess import Detections, postprocess


@torch.inference_mode()
def detect(
    detector: Detector, images: Tensor, sizes: Tensor, scales: Tensor | None, config: InferenceConfig
) -> list[Detections]:
    """Detections of normalised, padded images (supplement, Inference).

    images (B,3,H,W) on the detector's device; sizes (B,2) un-padded (height, width) in network pixels;
    scales (B,2) (width, height) factors from the original to the network image, None to stay in network
    pixels. All images must have been padded to the same size for themselves, for normalisation and layer
    attention see the padding. The detector must be in evaluation mode.
    """
    with number_format(config.precision, images.device):
        predictions = detector(images)
    return postprocess(predictions, sizes, scales, config)
