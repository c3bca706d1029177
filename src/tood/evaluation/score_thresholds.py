"""Where to set the score threshold: precision, recall and F1 against it, and whether scores are what they say.

A detection is right if it has an object of its class at IoU 0.5, as in COCO's matching; raising the threshold takes
detections away and changes nothing about the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tood.evaluation.error_kinds import DetectionErrors
from tood.evaluation.significance import Counts

THRESHOLDS = np.round(np.arange(101) * 0.01, 2)
BINS = 10
"""Of scores, for their reliability, equally wide."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Operating:
    """What a score threshold gives: shares, None where nothing is there to divide by."""

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, eq=False)
class ThresholdCounts:
    """Right and wrong detections with a score of at least each of ``THRESHOLDS`` (K), and the objects there are."""

    right: Floats
    """(K,...)"""
    wrong: Floats
    """(K,...)"""
    objects: Floats
    """(...)"""

    @property
    def precision(self) -> Floats:
        """NaN where nothing is found."""
        return _share(self.right, self.right + self.wrong)

    @property
    def recall(self) -> Floats:
        return _share(self.right, np.broadcast_to(self.objects, self.right.shape))

    @property
    def f1(self) -> Floats:
        """NaN where there is neither an object nor a detection."""
        return _share(2 * self.right, self.right + self.wrong + self.objects)

    def at(self, threshold: float) -> Operating:
        """Of one-dimensional counts; ``threshold`` is one of ``THRESHOLDS``."""
        place = int(np.argmin(np.abs(THRESHOLDS - threshold)))
        values = (self.precision[place], self.recall[place], self.f1[place])
        return Operating(float(THRESHOLDS[place]), *(None if np.isnan(one) else float(one) for one in values))

    def moved(self, threshold: float) -> "ThresholdCounts":
        """The counts that one ``threshold`` gives, at every place."""
        place = int(np.argmin(np.abs(THRESHOLDS - threshold)))
        return ThresholdCounts(
            np.full_like(self.right, self.right[place]), np.full_like(self.wrong, self.wrong[place]), self.objects
        )

    def __add__(self, other: "ThresholdCounts") -> "ThresholdCounts":
        return ThresholdCounts(self.right + other.right, self.wrong + other.wrong, self.objects + other.objects)

    def best(self) -> float | None:
        """The threshold with the largest F1, of equal ones the one in their middle; None without objects."""
        if not self.objects:
            return None
        f1 = np.nan_to_num(self.f1)
        places = np.flatnonzero(f1 >= f1.max() - 1e-12)
        return float(THRESHOLDS[places[len(places) // 2]])

    def reaching(self, *, precision: float | None = None, recall: float | None = None) -> float | None:
        """The lowest threshold with a wanted precision, or the highest with a wanted recall; None if none has it."""
        if precision is not None:
            reached = np.flatnonzero(np.nan_to_num(self.precision) >= precision)
            return float(THRESHOLDS[reached[0]]) if len(reached) else None
        assert recall is not None
        reached = np.flatnonzero(np.nan_to_num(self.recall) >= recall)
        return float(THRESHOLDS[reached[-1]]) if len(reached) else None


@dataclass(frozen=True, eq=False)
class Reliability:
    """Detections by their score, in ``BINS``: how many, how many are right, and the sum of their scores; (B,) each."""

    count: Floats
    right: Floats
    scores: Floats

    @property
    def error(self) -> float | None:
        """Expected calibration error: mean distance of a bin's score from its share of right ones; None of nothing."""
        total = self.count.sum()
        return None if total == 0 else float(np.abs(self.right - self.scores).sum() / total)

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(self.count + other.count, self.right + other.right, self.scores + other.scores)


def counts_of_classes(
    errors: DetectionErrors, classes: int, images: NDArray[np.bool_] | None = None
) -> ThresholdCounts:
    """Counts of each class (K,C), of all images or of those in the mask ``images`` (I,)."""
    found, objects = errors.found, errors.objects
    kept = errors.counted if images is None else errors.counted & images[found.images]
    there = ~objects.crowd if images is None else ~objects.crowd & images[objects.images]
    return ThresholdCounts(
        right=_at_least(found.scores, found.labels, classes, kept & errors.correct),
        wrong=_at_least(found.scores, found.labels, classes, kept & ~errors.correct),
        objects=np.bincount(objects.labels[there], minlength=classes).astype(np.float64),
    )


def counts_of_resamples(errors: DetectionErrors, weights: Counts) -> ThresholdCounts:
    """Counts over all classes in each resample: (K,S), for ``weights`` (I,S) of images."""
    found, objects, images = errors.found, errors.objects, len(weights)
    weight = weights.astype(np.float64)
    real = objects.images[~objects.crowd]
    return ThresholdCounts(
        right=_at_least(found.scores, found.images, images, errors.counted & errors.correct) @ weight,
        wrong=_at_least(found.scores, found.images, images, errors.counted & ~errors.correct) @ weight,
        objects=np.bincount(real, minlength=images) @ weight,
    )


def reliability(errors: DetectionErrors) -> Reliability:
    """Of all detections that count."""
    scores, right = errors.found.scores[errors.counted], errors.correct[errors.counted]
    place = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)
    return Reliability(
        count=np.bincount(place, minlength=BINS).astype(np.float64),
        right=np.asarray(np.bincount(place, right, minlength=BINS), np.float64),
        scores=np.asarray(np.bincount(place, scores, minlength=BINS), np.float64),
    )


def sum_of_classes(counts: ThresholdCounts) -> ThresholdCounts:
    """Counts (K,) over all classes of those of each (K,C)."""
    return ThresholdCounts(counts.right.sum(axis=1), counts.wrong.sum(axis=1), counts.objects.sum())


def of_class(counts: ThresholdCounts, label: int) -> ThresholdCounts:
    return ThresholdCounts(counts.right[:, label], counts.wrong[:, label], counts.objects[label])


def _at_least(scores: Floats, groups: NDArray[np.int64], count: int, kept: NDArray[np.bool_]) -> Floats:
    """How many of the ``kept`` have at least each threshold, by group: (K,G)."""
    place = np.searchsorted(THRESHOLDS, scores[kept] + 1e-12, side="right") - 1
    table = np.bincount(np.maximum(place, 0) * count + groups[kept], minlength=len(THRESHOLDS) * count).reshape(
        len(THRESHOLDS), count
    )
    return np.cumsum(table[::-1], axis=0)[::-1].astype(np.float64)


def _share(part: Floats, whole: Floats) -> Floats:
    shares: Floats = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return shares


@dataclass(frozen=True)
class ChosenThreshold:
    """A threshold with what it gives where it was chosen, and on pictures that had no part in the choice."""

    chosen: Operating
    reported: Operating | None


def choose_thresholds(
    chosen_on: ThresholdCounts, reported_on: ThresholdCounts, classes: tuple[str, ...]
) -> tuple[ChosenThreshold | None, Mapping[str, ChosenThreshold | None]]:
    """The thresholds of largest F1 over all classes and of each, from counts (K,C) of two splits."""
    every = _choose(sum_of_classes(chosen_on), sum_of_classes(reported_on))
    each = {name: _choose(of_class(chosen_on, c), of_class(reported_on, c)) for c, name in enumerate(classes)}
    return every, each


def _choose(chosen_on: ThresholdCounts, reported_on: ThresholdCounts) -> ChosenThreshold | None:
    best = chosen_on.best()
    return None if best is None else ChosenThreshold(chosen_on.at(best), reported_on.at(best))
