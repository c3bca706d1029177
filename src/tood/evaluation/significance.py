"""Significance of AP differences: a paired bootstrap over images (Efron & Tibshirani, 1993, ch. 13).

An image drawn w times counts as w copies, so AP of a resample is AP of precision-recall curves in which
every detection has the weight of its image: matching happens once, only the counting is repeated. The result
equals what pycocotools computes on the copied images. All runs are resampled alike, so the images'
difficulty cancels in differences between runs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tood.evaluation.match_records import MatchRecords

RESAMPLES = 2000
RESAMPLES_OF_MANY = 1000  # for more than _MANY images, where each costs more and the interval needs fewer
_MANY = 2000
SEED = 0
CONFIDENCE = 0.95
_BLOCK = 32  # rows that are processed together; keeps the temporaries in the processor's cache

Counts = NDArray[np.int32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Percentile interval, fractions."""

    low: float
    high: float

    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def default_resamples(images: int) -> int:
    """Resamples for a split of that many images: enough for a stable interval, in minutes even on COCO."""
    return RESAMPLES if images <= _MANY else RESAMPLES_OF_MANY


def draw_weights(images: int, resamples: int = RESAMPLES, seed: int = SEED) -> Counts:
    """How often each image occurs in each resample: (I,S), every column sums to I."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, images, size=(resamples, images))
    return np.stack([np.bincount(draw, minlength=images) for draw in draws], axis=1).astype(np.int32)


def percentile_interval(values: Floats, confidence: float = CONFIDENCE) -> Interval | None:
    """The central part of resampled values (S,), ignoring undefined ones; None if none is defined."""
    defined = values[~np.isnan(values)]
    if not defined.size:
        return None
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return Interval(float(low), float(high))


def resampled_ap(records: MatchRecords, weights: Counts) -> Floats:
    """AP (mean over IoU thresholds and classes with objects) of each resample.

    ``weights`` (I,S) from ``draw_weights``; returns (S,), NaN where a resample holds no object at all.
    """
    return mean_over_classes(resampled_class_ap(records, weights))


def resampled_class_ap(records: MatchRecords, weights: Counts) -> Floats:
    """AP (mean over IoU thresholds) of each class in each resample: (C,S), NaN where it holds no object of a class."""
    rows = list(np.ascontiguousarray(weights, np.int32))  # one (S,) view for each image
    objects = (records.objects.astype(np.float64) @ weights.astype(np.float64)).astype(np.int32)  # (C,S)
    found = np.full(objects.shape, np.nan)
    for c, present in enumerate(objects):
        if not present.any():
            continue
        part = slice(records.offsets[c], records.offsets[c + 1])
        order, row_of = _spread_ties(records, part, rows)
        hits, ignored = records.true_positive[:, part][:, order], records.ignored[:, part][:, order]
        found[c] = np.where(present > 0, _class_ap(hits, ignored, row_of, present), np.nan)
    return found


def mean_over_classes(values: Floats) -> Floats:
    """Mean (S,) of the defined values of (C,S), class after class; NaN where none is defined."""
    total = np.zeros(values.shape[1])
    for one in values:
        total += np.where(np.isnan(one), 0.0, one)
    classes = (~np.isnan(values)).sum(axis=0)
    return np.where(classes > 0, total / np.maximum(classes, 1), np.nan)


def _spread_ties(records: MatchRecords, part: slice, rows: list[Counts]) -> tuple[NDArray[np.intp], list[Counts]]:
    """Order of the detections of one class and the weight (S,) of each.

    Copies of an image come one after the other, so equal scores a, b within an image drawn twice read
    a b a b, not a a b b. Where a and b differ in outcome, each copy therefore gets entries of its own, of
    weight 0 or 1.
    """
    images, scores, hits = records.images[part], records.scores[part], records.true_positive[:, part]
    tied = (scores[1:] == scores[:-1]) & (images[1:] == images[:-1])
    mixed = tied & (hits[:, 1:] != hits[:, :-1]).any(axis=0)
    if not mixed.any():
        return np.arange(len(images)), [rows[i] for i in images]
    starts = np.flatnonzero(np.concatenate([[True], ~tied]))
    order: list[int] = []
    row_of: list[Counts] = []
    for start, stop in zip(starts, [*starts[1:], len(images)], strict=True):
        row = rows[images[start]]
        if not mixed[start : stop - 1].any():
            copies = [row]
        else:
            copies = [(row > copy).astype(np.int32) for copy in range(row.max())]
        for weight in copies:
            order.extend(range(start, stop))
            row_of.extend([weight] * (stop - start))
    return np.asarray(order, np.intp), row_of


def _class_ap(hits: NDArray[np.bool_], ignored: NDArray[np.bool_], row_of: list[Counts], present: Counts) -> Floats:
    """AP of one class in every resample, mean over the T IoU thresholds; 0 where ``present`` (S,) is 0."""
    last = np.stack([_last_of_run(hit, skip) for hit, skip in zip(hits, ignored, strict=True)])
    ever = np.flatnonzero(last.any(axis=0))
    seen = _running_counts(row_of, ever)
    place = np.zeros(hits.shape[1], np.intp)
    place[ever] = np.arange(len(ever))
    total = np.zeros(len(present))
    for hit, skip, ends in zip(hits, ignored, last, strict=True):
        at = np.flatnonzero(hit)
        if not len(at):
            continue
        wanted = np.flatnonzero(ends)
        counted = seen[place[wanted]]
        skipped = np.flatnonzero(skip)
        if len(skipped):
            unused = np.concatenate([np.zeros_like(seen[:1]), _running_counts([row_of[d] for d in skipped])])
            counted -= unused[np.searchsorted(skipped, wanted)]
        true = _running_counts([row_of[d] for d in at], np.searchsorted(at, wanted))
        total += _interpolated_ap(true, counted, present)
    return total / len(hits)


def _last_of_run(hit: NDArray[np.bool_], skip: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Ends (D,) of runs of true positives without a false positive in between.

    However often each is counted, precision rises along such a run, so its end stands for all of it.
    """
    counted = np.flatnonzero(~skip)
    ends = np.zeros(len(hit), bool)
    ends[counted] = hit[counted] & ~np.concatenate([hit[counted][1:], [False]])
    return ends


def _running_counts(row_of: list[Counts], at: NDArray[np.intp] | None = None) -> Counts:
    """Cumulative sums (n,S) of weights down a list of detections, kept at the positions ``at`` or all.

    A loop over long rows: numpy's own accumulation along the first axis is more than ten times slower.
    """
    wanted = range(len(row_of)) if at is None else at.tolist()
    kept = np.empty((len(wanted), len(row_of[0]) if row_of else 0), np.int32)
    running = np.zeros(kept.shape[1], np.int32)
    start = 0
    for target, position in zip(kept, wanted, strict=True):
        for row in row_of[start : position + 1]:
            np.add(running, row, out=running)
        target[:] = running
        start = position + 1
    return kept


def _interpolated_ap(true: Counts, counted: Counts, present: Counts) -> Floats:
    """101-point interpolated AP for each column.

    ``true`` (n,S) counts true positives and ``counted`` (n,S) all detections up to and including the end of the
    n-th run of true positives; points in between cannot raise the interpolated precision. ``present`` (S,) counts
    objects.

    With P_j the largest precision from point j on, AP = sum_j (P_j - P_{j+1}) * reached_j / 101.
    """
    divisor = np.maximum(present, 1).astype(np.float64)
    area = np.zeros(len(divisor))
    best = np.zeros((_BLOCK + 1, len(divisor)))
    for stop in range(len(true), 0, -_BLOCK):
        start = max(stop - _BLOCK, 0)
        size = stop - start
        best[size] = best[0]
        np.divide(true[start:stop], np.maximum(counted[start:stop], 1), out=best[:size])
        for j in range(size - 1, -1, -1):
            np.maximum(best[j], best[j + 1], out=best[j])
        reached = _thresholds_reached(true[start:stop], divisor)
        area += np.einsum("js,js->s", best[:size] - best[1 : size + 1], reached)
    return area / 101.0


def _thresholds_reached(true: Counts, divisor: Floats) -> Floats:
    """How many of the recall thresholds 0, 0.01, .. 1 are at most true / divisor, in pycocotools' rounding.

    Its thresholds are the doubles ``i * 0.01``; some lie above the quotient of the same value (7 of 20
    objects against 0.35, say), so the guess by multiplication is compared with the threshold itself.
    """
    recall = true / divisor
    index = recall * 100.0
    index += 1e-6
    np.floor(index, out=index)
    index += index * 0.01 <= recall
    return index
