"""Post-processing: dense predictions to detections by score threshold and NMS (the paper's supplement, Inference)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tood.config.method import InferenceConfig
from tood.detection.boxes import clip_boxes
from tood.detection.predictions import Predictions
from tood.detection.ranking import best_first
from tood.detection.score_voting import vote_boxes
from tood.detection.slots import detection_slots
from tood.detection.suppression import class_nms

LOGIT_MARGIN = 1e-2
"""By how much less than the threshold's logit is still looked at; far more than rounding."""


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
    """Detections of every image; of predictions on a GPU they are on the CPU, and the host waits once.

    ``sizes`` (B, 2) are (h, w) of the resized, un-padded images; ``scales`` (B, 2) are (w, h) factors from
    the original to the resized image, None to stay in network pixels. Per level the best pairs of location
    and class above the threshold are kept (ranked by the geometric mean: all such pairs of the best locations, as
    PAA's reference does), then classes are suppressed separately, then the best remain. Of equal scores that of the
    earlier location is better, and at the same location that of the lower class. Boxes without area are
    dropped; with score voting they stay, but for their class and score.
    """
    predictions = in_original_pixels(predictions, sizes, scales, config)
    if detects_together(predictions.boxes.device):
        return read_slots(predictions, detection_slots(predictions, config), config)
    return detect_one_by_one(predictions, range(len(predictions.boxes)), config)


def detects_together(device: torch.device) -> bool:
    """Whether the images of a batch are post-processed together there, in fixed shapes (``detection_slots``).

    On a GPU, where each wait and each launch counts. A CPU is faster with just the few pairs above the threshold.
    """
    return device.type == "cuda"


@torch.no_grad()
def in_original_pixels(
    predictions: Predictions, sizes: Tensor, scales: Tensor | None, config: InferenceConfig
) -> Predictions:
    """With boxes clipped and scaled as :func:`postprocess` says."""
    with torch.autocast(predictions.boxes.device.type, enabled=False):
        boxes = predictions.boxes
        if config.clip_boxes:
            boxes = clip_boxes(boxes, sizes.to(boxes.device)[:, None])
        if scales is not None:
            boxes = boxes / scales.to(boxes.device, boxes.dtype).repeat(1, 2)[:, None]
        return replace(predictions, boxes=boxes)


@torch.no_grad()
def read_slots(predictions: Predictions, slots: Tensor, config: InferenceConfig) -> list[Detections]:
    """Detections on the CPU from the slots (B, D + 1, 6) of :func:`detection_slots`: one copy, the only wait.

    Images for which the slots turn out not to be certain are then processed one by one.
    """
    values = slots.cpu()
    counts, certain = values[:, -1, :2].long().unbind(1)
    found = [
        Detections(one[:count, :4], one[:count, 4], one[:count, 5].long())
        for one, count in zip(values, counts.tolist(), strict=True)
    ]
    again = (certain == 0).nonzero().flatten().tolist()
    if again:
        for image, alone in zip(again, detect_one_by_one(predictions, again, config), strict=True):
            found[image] = Detections(alone.boxes.cpu(), alone.scores.cpu(), alone.labels.cpu())
    return found


@torch.no_grad()
def detect_one_by_one(predictions: Predictions, images: Iterable[int], config: InferenceConfig) -> list[Detections]:
    """Detections of some images, on the device; reads values."""
    with torch.autocast(predictions.boxes.device.type, enabled=False):
        lowest = _lowest_logits(predictions, config)
        return [_detect(predictions, lowest[image], image, config) for image in images]


def _lowest_logits(predictions: Predictions, config: InferenceConfig) -> Tensor:
    """(B, N) class logits that a score above the threshold needs at least, a margin below the exact ones.

    With them the few candidate pairs are found by comparing logits, without computing scores. With an alignment
    logit, score^2 = sigmoid(class) * sigmoid(alignment); if the threshold is on the geometric mean with the quality,
    the same is done once more.
    """
    needed = predictions.boxes.new_full(predictions.boxes.shape[:2], config.score_threshold)
    if config.rank_by == "geometric_mean":
        needed = _other_factor(needed, predictions.quality)
    needed = _other_factor(needed, predictions.alignment_logits)
    return needed.clamp(max=1 - LOGIT_MARGIN**2).logit() - LOGIT_MARGIN


def _other_factor(mean: Tensor, logits: Tensor | None) -> Tensor:
    """What has the geometric mean ``mean`` with sigmoid(logits); without logits ``mean`` itself."""
    if logits is None:
        return mean
    factor = logits.sigmoid()
    return mean.square() / factor.clamp(min=torch.finfo(factor.dtype).tiny)


def _detect(predictions: Predictions, lowest: Tensor, image: int, config: InferenceConfig) -> Detections:
    """One image; ``lowest`` (N,) of :func:`_lowest_logits`."""
    kept, labels, values, start = [], [], [], 0
    logits = predictions.class_logits[image]
    for level, level_lowest in zip(
        predictions.points.split(logits, 0), predictions.points.split(lowest, 0), strict=True
    ):
        location, label = _pairs(level > level_lowest[:, None])
        location = location + start
        value = _scores(predictions, image, location, label)
        if config.rank_by == "geometric_mean":
            value = (value * _quality(predictions, image, location)).sqrt()
        above = value > config.score_threshold
        location, label, value = location[above], label[above], value[above]
        if config.rank_by == "geometric_mean":
            order = _of_best_locations(location - start, value, len(level), config.pre_nms_topk)
        else:
            order = best_first(value, config.pre_nms_topk, location * logits.shape[1] + label)
        kept.append(location[order])
        labels.append(label[order])
        values.append(value[order])
        start += len(level)
    location, label, score = torch.cat(kept), torch.cat(labels), torch.cat(values)
    in_order = (location * logits.shape[1] + label).argsort()
    location, label, score = location[in_order], label[in_order], score[in_order]
    if config.rank_by == "class" and predictions.quality is not None:
        score = score * _quality(predictions, image, location)
    candidates = predictions.boxes[image, location]
    if config.score_voting is None:
        solid = (candidates[:, 2:] > candidates[:, :2]).all(dim=1)
        candidates, score, label = candidates[solid], score[solid], label[solid]
    best = class_nms(candidates, score, label, config.nms_iou)[: config.max_detections]
    boxes = candidates[best]
    if config.score_voting is not None:
        boxes = vote_boxes(boxes, label[best], candidates, label, score, sigma=config.score_voting)
    return Detections(boxes, score[best], label[best])


def _quality(predictions: Predictions, image: int, location: Tensor) -> Tensor:
    """Probabilities of quality at ``location`` (n,)."""
    assert predictions.quality is not None
    return predictions.quality[image, location].sigmoid()


def _of_best_locations(location: Tensor, score: Tensor, length: int, count: int) -> Tensor:
    """Indices of the pairs at the ``count`` locations, out of ``length``, whose best pair has the highest score."""
    best = score.new_zeros(length).scatter_reduce(0, location, score, "amax")
    kept = torch.zeros_like(best, dtype=torch.bool).index_fill(0, best_first(best, count), True)
    return kept[location].nonzero().squeeze(1)


def _pairs(wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column indices where ``wanted`` (n, C) is true; visited as it lies in memory, often by column."""
    if wanted.stride(0) < wanted.stride(1):
        label, location = wanted.T.nonzero(as_tuple=True)
        return location, label
    location, label = wanted.nonzero(as_tuple=True)
    return location, label


def _scores(predictions: Predictions, image: int, location: Tensor, label: Tensor) -> Tensor:
    """Scores of pairs of location and class."""
    alignment = predictions.alignment_logits
    chosen = replace(
        predictions,
        class_logits=predictions.class_logits[image, location, label][None, :, None],
        alignment_logits=None if alignment is None else alignment[image, location][None],
    )
    return chosen.scores().flatten()
