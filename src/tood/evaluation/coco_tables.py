"""Precision and recall tables from matched detections, equal to pycocotools' ``accumulate`` to the last bit.

Precision can only rise where a detection is a hit, and the highest precision at or beyond a recall is reached at a
hit, so only hits are looked at.
"""

import numpy as np
from numpy.typing import NDArray

from tood.evaluation.coco_matching import Matching

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def fill_tables(matching: Matching, recalls: Floats, limits: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Interpolated precision (T,R,C,A,M) and the highest recall (T,C,A,M); -1 for classes without objects.

    R ``recalls`` and M ``limits`` on the detections of one class in an image, ascending.
    """
    areas, thresholds, _ = matching.matched.shape
    classes = matching.objects.shape[1]
    precision = -np.ones((thresholds, len(recalls), classes, areas, len(limits)))
    recall = -np.ones((thresholds, classes, areas, len(limits)))
    counts = matching.objects.sum(axis=2, dtype=np.int64)  # (A,C)
    order = by_score(matching)
    bounds = np.searchsorted(matching.labels[order], np.arange(classes + 1))
    for c in np.flatnonzero(counts.any(axis=0)).tolist():
        part = order[bounds[c] : bounds[c + 1]]
        ranks = matching.ranks[part]
        for a in np.flatnonzero(counts[:, c]).tolist():
            counted = ~matching.ignored[a][:, part]
            hits = matching.matched[a][:, part] & counted
            needed = np.searchsorted(np.arange(counts[a, c] + 1) / counts[a, c], recalls)
            for m, limit in enumerate(limits.tolist()):
                kept = slice(None) if m == len(limits) - 1 else ranks < limit
                best, found = _best_precision(hits[:, kept], counted[:, kept])
                recall[:, c, a, m] = found / counts[a, c]
                precision[:, :, c, a, m] = _at_hits(best, found, np.maximum(needed, 1))
    return precision, recall


def by_score(matching: Matching) -> NDArray[np.intp]:
    """Order of the detections by class and descending score; equal scores image by image."""
    return np.lexsort((-matching.scores, matching.labels))


def _best_precision(hits: Flags, counted: Flags) -> tuple[Floats, NDArray[np.int64]]:
    """The highest precision at the n-th hit or later (T,n), 0 beyond the last, and the number of hits (T,)."""
    found = hits.sum(axis=1)
    best = np.zeros((len(hits), int(found.max(initial=0))))
    thresholds, places = np.nonzero(hits)
    number = np.arange(len(places)) - np.repeat(np.cumsum(found) - found, found)
    true = number + 1.0
    seen = np.cumsum(counted, axis=1, dtype=np.int32)[thresholds, places].astype(np.float64)
    best[thresholds, number] = true / (seen + np.spacing(1))
    return np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1], found


def _at_hits(best: Floats, found: NDArray[np.int64], needed: NDArray[np.int64]) -> Floats:
    """``best`` at the ``needed``-th hits (R,), counted from 1; 0 where there are fewer: (T,R)."""
    if not best.shape[1]:
        return np.zeros((len(best), len(needed)))
    values = best[:, np.minimum(needed, best.shape[1]) - 1]
    return np.where(needed <= found[:, None], values, 0.0)
