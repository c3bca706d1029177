"""Match records: the outcome of every detection at every IoU threshold, from which the bootstrap resamples AP."""

from dataclasses import dataclass

import numpy as np

from tood.evaluation.coco_matching import Matching
from tood.evaluation.coco_tables import by_score


@dataclass(frozen=True)
class MatchRecords:
    """Outcomes of all detections of a run. I images, C classes, D detections, T IoU thresholds.

    Detections are grouped by class (``offsets``) and sorted by descending score within a class; equal scores
    keep pycocotools' order (image by image, then the order in the file).
    """

    image_ids: np.ndarray  # (I,) sorted
    objects: np.ndarray  # (C,I) int32: objects that count, i.e. no crowds
    offsets: np.ndarray  # (C+1,) int64
    images: np.ndarray  # (D,) int32: index into image_ids
    scores: np.ndarray  # (D,) float64
    true_positive: np.ndarray  # (T,D) bool
    ignored: np.ndarray  # (T,D) bool: matched to a crowd, counts neither way


def match_records(matching: Matching, image_ids: np.ndarray) -> MatchRecords:
    """The records of the first range of areas."""
    order = by_score(matching)
    matched, ignored = matching.matched[0][:, order], matching.ignored[0][:, order]
    return MatchRecords(
        image_ids=image_ids,
        objects=matching.objects[0],
        offsets=np.searchsorted(matching.labels[order], np.arange(len(matching.objects[0]) + 1)),
        images=matching.images[order].astype(np.int32),
        scores=matching.scores[order],
        true_positive=matched & ~ignored,
        ignored=ignored,
    )


def scores_at_recalls(records: MatchRecords, recalls: np.ndarray, threshold: int) -> np.ndarray:
    """The score at which each of ``recalls`` (R,) is reached at an IoU threshold, by class: (C,R).

    0 where it is not reached, NaN for classes without objects.
    """
    found = np.full((len(records.objects), len(recalls)), np.nan)
    for label, count in enumerate(records.objects.sum(axis=1).tolist()):
        if not count:
            continue
        part = slice(records.offsets[label], records.offsets[label + 1])
        hits = np.append(records.scores[part][records.true_positive[threshold, part]], 0.0)
        needed = np.maximum(np.searchsorted(np.arange(count + 1) / count, recalls), 1)
        found[label] = hits[np.minimum(needed - 1, len(hits) - 1)]
    return found
