"""What kind of errors a detector makes, and what each kind costs: the six of TIDE (Bolya et al. 2020), at IoU 0.5.

A false positive is of exactly one kind, an object that nobody found is missed unless a localisation or class error
points to it. The cost of a kind is how much AP50 would rise if all errors of that kind, and nothing else, were mended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask

from tood.data.split_table import SplitTable
from tood.evaluation.ground_truth import Found, Objects, found_in
from tood.evaluation.match_records import MatchRecords
from tood.evaluation.significance import Counts, Floats, mean_over_classes, resampled_class_ap

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class ErrorKind(IntEnum):
    """The six kinds, in the paper's order; section 2.2 there."""

    CLASS = 0
    LOCALISATION = 1
    BOTH = 2
    DUPLICATE = 3
    BACKGROUND = 4
    MISSED = 5


KINDS = {
    ErrorKind.CLASS: "right place (IoU of 0.5 or more with an object of another class), wrong class",
    ErrorKind.LOCALISATION: "right class, wrong place (IoU from 0.1 to 0.5 with an object of its class)",
    ErrorKind.BOTH: "wrong class and wrong place",
    ErrorKind.DUPLICATE: "right class and place, but a detection with a higher score has the object",
    ErrorKind.BACKGROUND: "no object there (IoU of 0.1 or less with every object)",
    ErrorKind.MISSED: "an object that no detection found and no class or localisation error points to",
}


@dataclass(frozen=True, eq=False)
class DetectionErrors:
    """Outcomes of D detections (at most as many per image as there are), in the order given, and of N objects."""

    found: Found
    objects: Objects
    counted: Flags
    """(D,) false where a crowd region takes the detection out of the count."""
    correct: Flags
    """(D,)"""
    kind: Ints
    """(D,) an ErrorKind; -1 where it is correct or does not count."""
    target: Ints
    """(D,) the object that a correct detection has, or that a class or localisation error points to; else -1."""
    taken: Flags
    """(N,) objects that a detection has."""
    missed: Flags
    """(N,)"""

    def counts(self) -> Ints:
        """Errors of each kind (6,)."""
        counts = np.bincount(self.kind[self.kind >= 0], minlength=len(ErrorKind))
        counts[ErrorKind.MISSED] = self.missed.sum()
        return counts


def find_errors(
    table: SplitTable, detections: Sequence[Mapping[str, Any]], source: Path | None = None
) -> DetectionErrors:
    """The kind of every error among COCO results on a whole split. UserError as ``evaluate_detections``."""
    found = found_in(table, detections, str(source or "detections"))
    objects = Objects.of(table)
    count = len(found)
    counted, correct = np.ones(count, bool), np.zeros(count, bool)
    kind, target = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    taken, missed = np.zeros(len(objects.labels), bool), ~objects.crowd
    order = np.lexsort((-found.scores, found.images))  # stable: equal scores keep the order given
    bounds = np.searchsorted(found.images[order], np.arange(len(table.image_ids) + 1))
    starts = np.searchsorted(objects.images, np.arange(len(table.image_ids) + 1))
    for image in np.flatnonzero(np.diff(bounds)).tolist():
        part = order[bounds[image] : bounds[image + 1]]
        every = np.arange(starts[image], starts[image + 1])
        real, crowds = every[~objects.crowd[every]], every[objects.crowd[every]]
        own = objects.labels[real][None] == found.labels[part][:, None]  # (d,n)
        overlap = overlaps(found.boxes[part], objects.boxes[real], crowd=False)
        has = free_greedy(np.where(own, overlap, 0.0))
        hit = has >= 0
        correct[part] = hit
        taken[real[has[hit]]] = True
        in_crowd = overlaps(found.boxes[part], objects.boxes[crowds], crowd=True) > FOREGROUND_IOU
        in_crowd &= objects.labels[crowds][None] == found.labels[part][:, None]
        counted[part] = hit | ~in_crowd.any(axis=1)
        kinds, targets = _kinds(overlap, own, taken[real])
        wrong = counted[part] & ~hit
        kind[part[wrong]] = kinds[wrong]
        target[part[hit]] = real[has[hit]]
        pointed = wrong & (targets >= 0)
        target[part[pointed]] = real[targets[pointed]]
        missed[real[targets[pointed]]] = False
    missed &= ~taken
    return DetectionErrors(found, objects, counted, correct, kind, target, taken, missed)


def overlaps(boxes: Floats, objects: Floats, *, crowd: bool) -> Floats:
    """IoU (d,n); with crowd regions the share of the detection."""
    if not len(boxes) or not len(objects):
        return np.zeros((len(boxes), len(objects)))
    return np.asarray(mask.iou(boxes, objects, [crowd] * len(objects)), np.float64)


def free_greedy(overlap: Floats) -> Ints:
    """The object (d,) that each detection has, best score first, each the free one it overlaps most; -1 for none."""
    has = np.full(len(overlap), -1, np.int64)
    if not overlap.shape[1]:
        return has
    free = overlap.copy()
    for detection in np.flatnonzero((overlap >= FOREGROUND_IOU).any(axis=1)).tolist():
        best = int(free[detection].argmax())
        if free[detection, best] >= FOREGROUND_IOU:
            has[detection] = best
            free[:, best] = 0.0
    return has


def _kinds(overlap: Floats, own: Flags, taken: Flags) -> tuple[Ints, Ints]:
    """The kind (d,) of each detection of an image if it is an error, and the object (d,) that it points to or -1."""
    count = len(overlap)
    kinds = np.full(count, ErrorKind.BACKGROUND, np.int64)
    targets = np.full(count, -1, np.int64)
    if not overlap.shape[1]:
        return kinds, targets
    of_class, of_others = np.where(own, overlap, 0.0), np.where(own, 0.0, overlap)
    near, other = of_class.argmax(axis=1), of_others.argmax(axis=1)
    best, wrong = of_class.max(axis=1), of_others.max(axis=1)
    place = (best >= BACKGROUND_IOU) & (best <= FOREGROUND_IOU)
    label = ~place & (wrong >= FOREGROUND_IOU)
    twice = ~place & ~label & ((of_class * taken).max(axis=1) >= FOREGROUND_IOU)
    both = ~place & ~label & ~twice & (overlap.max(axis=1) > BACKGROUND_IOU)
    kinds[place], kinds[label] = ErrorKind.LOCALISATION, ErrorKind.CLASS
    kinds[twice], kinds[both] = ErrorKind.DUPLICATE, ErrorKind.BOTH
    targets[place], targets[label] = near[place], other[label]
    return kinds, targets


def mended_records(errors: DetectionErrors, table: SplitTable) -> dict[ErrorKind | None, MatchRecords]:
    """Match records at IoU 0.5 as they are (None), and with all errors of one kind mended."""
    found, objects = errors.found, errors.objects
    classes, images = len(table.classes), len(table.image_ids)
    chosen = _mends(errors)
    result: dict[ErrorKind | None, MatchRecords] = {}
    for kind in (None, *ErrorKind):
        kept, hit, labels = errors.counted.copy(), errors.correct.copy(), found.labels.copy()
        real = ~objects.crowd
        if kind is ErrorKind.MISSED:
            real &= ~errors.missed
        elif kind is not None:
            wrong = errors.kind == kind
            mended = wrong & chosen
            kept &= ~wrong | mended
            hit |= mended
            labels[mended] = objects.labels[errors.target[mended]]
        counts = np.bincount(objects.labels[real] * images + objects.images[real], minlength=classes * images)
        result[kind] = _records(
            replace(found, labels=labels), kept, hit, counts.reshape(classes, images).astype(np.int32), table
        )
    return result


def _mends(errors: DetectionErrors) -> Flags:
    """Class and localisation errors (D,) that become correct: for each free object the one with the highest score."""
    pointing = np.isin(errors.kind, (ErrorKind.CLASS, ErrorKind.LOCALISATION))
    places = np.flatnonzero(pointing)
    places = places[~errors.taken[errors.target[places]]]
    order = places[np.lexsort((-errors.found.scores[places], errors.target[places]))]
    first = np.concatenate([[True], errors.target[order][1:] != errors.target[order][:-1]])[: len(order)]
    chosen = np.zeros(len(errors.found), bool)
    chosen[order[first]] = True
    return chosen


def _records(found: Found, kept: Flags, hit: Flags, counts: NDArray[np.int32], table: SplitTable) -> MatchRecords:
    places = np.flatnonzero(kept)
    order = places[np.lexsort((found.images[places], -found.scores[places], found.labels[places]))]
    return MatchRecords(
        image_ids=table.image_ids,
        objects=counts,
        offsets=np.searchsorted(found.labels[order], np.arange(len(counts) + 1)),
        images=found.images[order].astype(np.int32),
        scores=found.scores[order],
        true_positive=hit[order][None],
        ignored=np.zeros((1, len(order)), bool),
    )


def error_costs(errors: DetectionErrors, table: SplitTable, weights: Counts) -> Floats:
    """AP50 that mending each kind would add (6,S), fractions, for ``weights`` (I,S) of images; never below zero.

    A class counts where the split, or the resample, has an object of it; one whose objects are all mended away counts
    as AP 0, as in the authors' program.
    """
    records = mended_records(errors, table)
    before = resampled_class_ap(records[None], weights)
    costs = []
    for kind in ErrorKind:
        after = resampled_class_ap(records[kind], weights)
        after = np.where(np.isnan(before), np.nan, np.nan_to_num(after))
        costs.append(np.maximum(mean_over_classes(after) - mean_over_classes(before), 0.0))
    return np.stack(costs)
