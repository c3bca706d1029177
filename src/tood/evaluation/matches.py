"""What became of every detection, taken out of one pass of pycocotools: the raw material of the bootstrap."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class MatchRecords:
    """Outcomes of all detections of a run. I images, C classes, D detections, T IoU thresholds.

    Detections are grouped by class (``offsets``) and sorted by falling score within a class; equal scores
    keep pycocotools' order (image by image, then the order in the file).
    """

    image_ids: np.ndarray  # (I,) sorted
    objects: np.ndarray  # (C,I) int32: objects that count, i.e. no crowds
    offsets: np.ndarray  # (C+1,) int64
    images: np.ndarray  # (D,) int32: index into image_ids
    scores: np.ndarray  # (D,) float64
    true_positive: np.ndarray  # (T,D) bool
    ignored: np.ndarray  # (T,D) bool: matched to a crowd, counts neither way


def match_records(evaluation: Any) -> MatchRecords:
    """Read the records of an evaluated ``COCOeval`` (its first area range, its largest detection limit)."""
    params = evaluation.params
    image_ids = np.asarray(params.imgIds)
    thresholds, areas, classes = len(params.iouThrs), len(params.areaRng), len(params.catIds)
    objects = np.zeros((classes, len(image_ids)), np.int32)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    for c in range(classes):
        start = c * areas * len(image_ids)
        per_image = evaluation.evalImgs[start : start + len(image_ids)]
        found = [(i, entry) for i, entry in enumerate(per_image) if entry is not None]
        for i, entry in found:
            objects[c, i] = np.count_nonzero(np.asarray(entry["gtIgnore"]) == 0)
        lengths = [len(entry["dtScores"]) for _, entry in found]
        images = np.repeat([i for i, _ in found], lengths).astype(np.int32)
        scores = np.concatenate([np.zeros(0), *(np.asarray(entry["dtScores"], float) for _, entry in found)])
        empty = np.zeros((thresholds, 0), bool)
        matched = np.concatenate([empty, *(entry["dtMatches"] > 0 for _, entry in found)], axis=1)
        ignored = np.concatenate([empty, *(entry["dtIgnore"].astype(bool) for _, entry in found)], axis=1)
        order = np.argsort(-scores, kind="stable")
        parts.append((images[order], scores[order], (matched & ~ignored)[:, order], ignored[:, order]))
    return MatchRecords(
        image_ids=image_ids,
        objects=objects,
        offsets=np.cumsum([0, *(len(images) for images, *_ in parts)]),
        images=np.concatenate([images for images, *_ in parts]),
        scores=np.concatenate([scores for _, scores, _, _ in parts]),
        true_positive=np.concatenate([hits for _, _, hits, _ in parts], axis=1),
        ignored=np.concatenate([ignored for *_, ignored in parts], axis=1),
    )
