"""Post-processing of all images of a batch together, without a wait for the host: every shape is known before.

What ``tood.detection.postprocess`` says, in slots that may stay empty. A CUDA graph can capture it.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tood.config.method import InferenceConfig
from tood.detection.predictions import Predictions
from tood.detection.ranking import best_first
from tood.detection.score_voting import vote_boxes
from tood.detection.suppression import suppress_together

SUPPRESSED_TOGETHER = 2048
"""Pairs of location and class of an image that are suppressed, the best. The work grows with the square."""
MOST_PAIRS = 8192
"""Pairs of an image that are taken from its best locations, where their number is not limited otherwise."""
SCORES_TOGETHER = 1 << 26
"""Scores that are ranked at a time: about 1.5 GB."""


class _Candidates(NamedTuple):
    """The pairs of location and class of B images that count, by location, then class, in K slots for each image."""

    boxes: Tensor
    """(B, K, 4)"""
    labels: Tensor
    """(B, K) int64"""
    scores: Tensor
    """(B, K), -1 in slots that are empty."""
    complete: Tensor
    """(B,) bool: whether these are all."""


@torch.no_grad()
def detection_slots(
    predictions: Predictions,
    config: InferenceConfig,
    *,
    most_pairs: int = MOST_PAIRS,
    suppressed_together: int = SUPPRESSED_TOGETHER,
    scores_together: int = SCORES_TOGETHER,
) -> Tensor:
    """Detections as (B, D + 1, 6), best first: box, score and label in each row, with up to D of them.

    The last row has the number of detections and whether they are certain (1) or may be others (0). They are certain
    if suppression had rounds enough, and if the best ``suppressed_together`` pairs were all or left
    ``max_detections``: what comes later suppresses nothing before it. With score voting, all pairs have to be there.
    Boxes are taken as they are: clipped and scaled before.
    """
    with torch.autocast(predictions.boxes.device.type, enabled=False):
        images = max(1, scores_together // predictions.class_logits[0].numel())
        parts = [
            _slots(_candidates(part, config, most_pairs), config, suppressed_together)
            for part in _split(predictions, images)
        ]
        return torch.cat(parts)


def _split(predictions: Predictions, images: int) -> list[Predictions]:
    """What post-processing reads, in parts of so many images."""
    fields = ("class_logits", "boxes", "alignment_logits", "quality")
    given = {name: value for name in fields if (value := getattr(predictions, name)) is not None}
    parts = zip(*(value.split(images) for value in given.values()), strict=True)
    return [replace(predictions, **dict(zip(given, part, strict=True))) for part in parts]


def _candidates(predictions: Predictions, config: InferenceConfig, most_pairs: int) -> _Candidates:
    """The best pairs above the threshold of each level, or all those of its best locations."""
    classes = predictions.class_logits.shape[2]
    scores = predictions.scores()
    if config.rank_by == "geometric_mean":
        assert predictions.quality is not None
        scores = (scores * predictions.quality.sigmoid()[..., None]).sqrt()
    scores = torch.where(scores > config.score_threshold, scores, -1)
    if config.rank_by == "geometric_mean":
        scores = torch.where(_best_locations(scores, predictions, config)[..., None], scores, -1)
        flat = scores.flatten(1)
        pairs = best_first(flat, most_pairs)
        complete = (flat >= 0).sum(dim=1) <= most_pairs
    else:
        flat = scores.flatten(1)
        sizes = [count * classes for count in predictions.points.level_counts]
        best = [best_first(level, config.pre_nms_topk) for level in flat.split(sizes, dim=1)]
        pairs = torch.cat([one + start for one, start in zip(best, _starts(sizes), strict=True)], dim=1)
        complete = torch.ones_like(flat[:, 0], dtype=torch.bool)
    pairs = pairs.sort(dim=1).values
    location, label, score = pairs // classes, pairs % classes, flat.gather(1, pairs)
    boxes = predictions.boxes.gather(1, location[..., None].expand(-1, -1, 4))
    exists = score >= 0
    if config.rank_by == "class" and predictions.quality is not None:
        score = score * predictions.quality.gather(1, location).sigmoid()
    if config.score_voting is None:
        exists &= (boxes[..., 2:] > boxes[..., :2]).all(dim=2)
    return _Candidates(boxes, label, torch.where(exists, score, -1), complete)


def _starts(sizes: list[int]) -> list[int]:
    return [sum(sizes[:level]) for level in range(len(sizes))]


def _best_locations(scores: Tensor, predictions: Predictions, config: InferenceConfig) -> Tensor:
    """(B, N) bool: of each level the locations whose best pair has the highest score."""
    best = scores.amax(dim=2)
    chosen = [
        torch.zeros_like(level, dtype=torch.bool).scatter(1, best_first(level, config.pre_nms_topk), True)
        for level in predictions.points.split(best)
    ]
    return torch.cat(chosen, dim=1)


def _slots(candidates: _Candidates, config: InferenceConfig, suppressed_together: int) -> Tensor:
    """Of the best candidates, those that survive, as rows."""
    order = best_first(candidates.scores, suppressed_together)
    boxes = candidates.boxes.gather(1, order[..., None].expand(-1, -1, 4))
    labels, scores = candidates.labels.gather(1, order), candidates.scores.gather(1, order)
    kept, certain = suppress_together(boxes, labels, scores >= 0, config.nms_iou)
    found = kept.sum(dim=1)
    everything = candidates.complete & ((candidates.scores >= 0).sum(dim=1) <= suppressed_together)
    certain &= everything | (found >= config.max_detections)
    slots = kept.byte().sort(dim=1, descending=True, stable=True).indices[:, : config.max_detections]
    boxes = boxes.gather(1, slots[..., None].expand(-1, -1, 4))
    labels, scores = labels.gather(1, slots), scores.gather(1, slots)
    if config.score_voting is not None:
        boxes = _vote(boxes, labels, candidates, config.score_voting)
        certain &= candidates.complete
    rows = torch.cat([boxes, scores[..., None], labels[..., None].to(boxes.dtype)], dim=2)
    summary = torch.stack([found.clamp(max=config.max_detections), certain], dim=1).to(rows.dtype)
    return torch.cat([rows, F.pad(summary, (0, 4))[:, None]], dim=1)


def _vote(boxes: Tensor, labels: Tensor, candidates: _Candidates, sigma: float) -> Tensor:
    """Empty slots have boxes without area, which have no vote."""
    exists = candidates.scores >= 0
    return vote_boxes(
        boxes,
        labels,
        torch.where(exists[..., None], candidates.boxes, 0),
        candidates.labels,
        candidates.scores,
        sigma=sigma,
    )
