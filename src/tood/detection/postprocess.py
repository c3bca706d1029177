"""From dense predictions to detections (the paper's supplement, Inference)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms

from tood.config.method import InferenceConfig
from tood.detection.boxes import clip_boxes
from tood.detection.predictions import Predictions


@dataclass(frozen=True, eq=False)
class Detections:
    """D detections of one image, best first."""

    boxes: Tensor
    """(D, 4) pixels of the original image."""
    scores: Tensor
    """(D,)"""
    labels: Tensor
    """(D,) int64."""


@torch.no_grad()
def postprocess(
    predictions: Predictions, sizes: Tensor, scales: Tensor | None, config: InferenceConfig
) -> list[Detections]:
    """Detections of every image.

    ``sizes`` (B, 2) are (h, w) of the resized, un-padded images; ``scales`` (B, 2) are (w, h) factors from
    the original to the resized image, None to stay in network pixels. Per level the best pairs of location
    and class above the threshold are kept, then classes are suppressed separately, then the best remain.
    """
    with torch.autocast(predictions.boxes.device.type, enabled=False):
        boxes = predictions.boxes
        if config.clip_boxes:
            boxes = clip_boxes(boxes, sizes.to(boxes.device)[:, None])
        if scales is not None:
            boxes = boxes / scales.to(boxes.device, boxes.dtype).repeat(1, 2)[:, None]
        quality = None if predictions.quality is None else predictions.quality.sigmoid()
        scores = predictions.scores()
        return [
            _detect(predictions, scores[i], boxes[i], None if quality is None else quality[i], config)
            for i in range(boxes.shape[0])
        ]


def _detect(
    predictions: Predictions, scores: Tensor, boxes: Tensor, quality: Tensor | None, config: InferenceConfig
) -> Detections:
    """One image: scores (N, C), boxes (N, 4), quality (N,)."""
    kept, labels, values, start = [], [], [], 0
    for level in predictions.points.split(scores, dim=0):
        location, label = (level > config.score_threshold).nonzero(as_tuple=True)
        value = level[location, label]
        value, order = value.topk(min(config.pre_nms_topk, len(value)))
        kept.append(location[order] + start)
        labels.append(label[order])
        values.append(value)
        start += len(level)
    location, label, score = torch.cat(kept), torch.cat(labels), torch.cat(values)
    if quality is not None:
        score = score * quality[location]
    candidates = boxes[location]
    solid = (candidates[:, 2:] > candidates[:, :2]).all(dim=1)
    candidates, score, label = candidates[solid], score[solid], label[solid]
    best = class_nms(candidates, score, label, config.nms_iou)[: config.max_detections]
    return Detections(candidates[best], score[best], label[best])


def class_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """Indices that survive suppression on overlap > ``iou`` within each class, best score first.

    Classes are moved apart by more than the extent of all boxes, in float64: exact for boxes anywhere,
    also at negative coordinates, where offsets from the largest coordinate alone let classes collide.
    """
    if len(boxes) == 0:
        return labels
    apart = boxes.double()
    extent = apart.max() - apart.min() + 1
    kept: Tensor = nms(apart + (labels * extent)[:, None], scores.double(), iou)
    return kept
