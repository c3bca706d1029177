"""Matching of detections to objects: pycocotools' greedy matching, vectorised over all images and classes.

Within an image and class, detections choose in descending score, each the object it overlaps most among those that
are free and reach the IoU threshold; objects that count come before those that are ignored, equal overlaps go to the
later object, and crowd regions are never taken. That is repeated for every IoU threshold and every range of areas.
Most pairs overlap too little for any threshold; the others are processed one after the other within an image and
class, for all images and classes together.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tood.data.counted_objects import is_counted
from tood.data.split_table import SplitTable
from tood.evaluation.ground_truth import Found, Objects

_PAIRS = 1 << 21  # pairs of a detection and an object whose overlap is computed together
_NEVER_ONE = 1 - 1e-10  # pycocotools' limit on thresholds

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Matching:
    """Matches of D detections, at most ``limit`` per class and image, sorted by class, image and descending score.

    A ranges of area, T IoU thresholds, C classes, I images. Equal scores keep the order they were given in.
    """

    labels: Ints
    """(D,)"""
    images: Ints
    """(D,) positions in the split's ``image_ids``."""
    ranks: Ints
    """(D,) place by score within image and class, from 0."""
    scores: NDArray[np.float64]
    """(D,)"""
    matched: Flags
    """(A,T,D) to an object or a crowd region."""
    ignored: Flags
    """(A,T,D) counts neither way: matched to what is ignored, or unmatched and outside the range of areas."""
    objects: NDArray[np.int32]
    """(A,C,I) objects that count."""


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs that overlap enough for the lowest threshold; (P,) each."""

    detections: Ints
    objects: Ints
    overlaps: NDArray[np.float64]


def match(
    table: SplitTable, found: Found, *, limit: int, thresholds: NDArray[np.float64], areas: NDArray[np.float64]
) -> Matching:
    """Match detections to objects at each of the IoU ``thresholds`` (T,) and for each range of ``areas`` (A,2)."""
    objects = Objects.of(table)
    groups = found.labels * len(table.image_ids) + found.images
    order = np.lexsort((-found.scores, groups))
    ranks = _places(groups[order])
    order, ranks = order[ranks < limit], ranks[ranks < limit]
    groups, boxes = groups[order], found.boxes[order]
    of_object = objects.labels * len(table.image_ids) + objects.images
    lowest = min(float(thresholds.min()), _NEVER_ONE)
    pairs = _overlapping(groups, boxes, of_object, objects, lowest)
    no_object = np.stack([~is_counted(objects.crowd, objects.areas, limits) for limits in areas])  # (A,N)
    shape = (len(areas), len(order), len(thresholds))
    matched, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    for area in range(len(areas)):
        turns = _turns(pairs, groups, ranks, no_object[area])
        _take_turns(
            turns, np.minimum(thresholds, _NEVER_ONE), objects.crowd, no_object[area], matched[area], ignored[area]
        )
    ignored |= ~matched & _outside(boxes[:, 2] * boxes[:, 3], areas)[:, :, None]
    counts = [
        np.bincount(of_object[~skipped], minlength=len(table.classes) * len(table.image_ids)) for skipped in no_object
    ]
    return Matching(
        labels=found.labels[order],
        images=found.images[order],
        ranks=ranks,
        scores=found.scores[order],
        matched=matched.transpose(0, 2, 1),
        ignored=ignored.transpose(0, 2, 1),
        objects=np.stack(counts).reshape(len(areas), len(table.classes), len(table.image_ids)).astype(np.int32),
    )


def _outside(values: NDArray[np.float64], areas: NDArray[np.float64]) -> Flags:
    """(A,n)"""
    return (values < areas[:, :1]) | (values > areas[:, 1:])


def _places(keys: Ints) -> Ints:
    """Place of each element within its run of equal keys, from 0."""
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
    lengths = np.diff([*starts, len(keys)])
    return np.arange(len(keys)) - np.repeat(starts, lengths)


def _overlapping(groups: Ints, boxes: NDArray[np.float64], of_object: Ints, objects: Objects, lowest: float) -> _Pairs:
    """All pairs of one image and class with an overlap of at least ``lowest``, detection by detection."""
    by_group = np.argsort(of_object, kind="stable")
    first, last = (np.searchsorted(of_object[by_group], groups, side) for side in ("left", "right"))
    counts = last - first
    ends = np.cumsum(counts)
    parts: list[tuple[Ints, Ints, NDArray[np.float64]]] = []
    start = 0
    while start < len(groups):
        done = ends[start] - counts[start]
        stop = max(int(np.searchsorted(ends, done + _PAIRS, "right")), start + 1)
        detections = np.repeat(np.arange(start, stop), counts[start:stop])
        within = np.arange(len(detections)) - np.repeat(
            ends[start:stop] - counts[start:stop] - done, counts[start:stop]
        )
        places = by_group[first[detections] + within]
        overlaps = _overlaps(boxes[detections], objects.boxes[places], objects.crowd[places])
        near = overlaps >= lowest
        parts.append((detections[near], places[near], overlaps[near]))
        start = stop
    if not parts:
        return _Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return _Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _overlaps(boxes: NDArray[np.float64], objects: NDArray[np.float64], crowd: Flags) -> NDArray[np.float64]:
    """IoU (P,) of xywh boxes, with a crowd region the share of the detection; in pycocotools' operations."""
    (x, y, w, h), (other_x, other_y, other_w, other_h) = boxes.T, objects.T
    wide = np.minimum(x + w, other_x + other_w) - np.maximum(x, other_x)
    high = np.minimum(y + h, other_y + other_h) - np.maximum(y, other_y)
    common = np.where((wide > 0) & (high > 0), wide * high, 0.0)
    union = np.where(crowd, w * h, w * h + other_w * other_h - common)
    shares: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=common > 0)
    return shares


def _turns(pairs: _Pairs, groups: Ints, ranks: Ints, no_object: Flags) -> list[tuple[Ints, Ints, NDArray[np.float64]]]:
    """Pairs in the order they are tried: the k-th of every image and class together.

    When a detection chooses, at most as many objects are taken as detections came before it, so further ones of the
    same kind cannot be chosen and are left out.
    """
    skipped = no_object[pairs.objects]
    order = np.lexsort((-pairs.objects, -pairs.overlaps, skipped, pairs.detections))
    detections, objects, overlaps = pairs.detections[order], pairs.objects[order], pairs.overlaps[order]
    reachable = _places(2 * detections + skipped[order]) <= ranks[detections]
    detections, objects, overlaps = detections[reachable], objects[reachable], overlaps[reachable]
    turn = _places(groups[detections])
    order = np.argsort(turn, kind="stable")
    ends = np.cumsum(np.bincount(turn))
    parts = np.split(order, ends[:-1]) if len(ends) else []
    return [(detections[part], objects[part], overlaps[part]) for part in parts]


def _take_turns(
    turns: list[tuple[Ints, Ints, NDArray[np.float64]]],
    thresholds: NDArray[np.float64],
    crowd: Flags,
    no_object: Flags,
    matched: Flags,
    ignored: Flags,
) -> None:
    """Fill ``matched`` and ``ignored`` (D,T)."""
    free = np.ones((len(crowd), len(thresholds)), bool)
    for detections, objects, overlaps in turns:
        taken = (overlaps[:, None] >= thresholds) & ~matched[detections] & free[objects]
        matched[detections] |= taken
        ignored[detections] |= taken & no_object[objects, None]
        free[objects] &= ~taken | crowd[objects, None]
