"""Alignment analysis of final detections: counts of correct, redundant and erroneous boxes (Table 6 of the paper)."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask

from tood.data.split_table import SplitTable
from tood.evaluation.ground_truth import Objects, found_in

MATCH_IOU = 0.5
ERROR_IOU = 0.1

DEFINITIONS = {
    "detections": (
        "The run's final detections, after score threshold and NMS, in descending score; each is compared with the "
        "objects of its class in its image alone and counts once."
    ),
    "correct": (
        f"IoU of at least {MATCH_IOU} with an object that no earlier detection has taken; it takes the one it overlaps "
        "most."
    ),
    "redundant": f"Not correct, and IoU of at least {MATCH_IOU} with an object that is taken already.",
    "error": f"Neither, and the largest IoU with an object lies between {ERROR_IOU} and {MATCH_IOU}, both excluded.",
    "on_crowd": (
        f"Not correct, and at least {100 * MATCH_IOU:.0f} % of its own area lies in a crowd region of its class, where "
        "COCO does not count it either: neither redundant nor an error."
    ),
    "elsewhere": "All others: no object of the class overlaps them enough.",
}


@dataclass(frozen=True)
class BoxCounts:
    """Numbers of detections by outcome, as ``DEFINITIONS`` has them; they add up to all detections."""

    correct: int = 0
    redundant: int = 0
    error: int = 0
    on_crowd: int = 0
    elsewhere: int = 0

    def __add__(self, other: "BoxCounts") -> "BoxCounts":
        names = [field.name for field in dataclasses.fields(self)]
        return BoxCounts(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def detections(self) -> int:
        return sum(dataclasses.astuple(self))


def count_boxes(table: SplitTable, detections: Sequence[Mapping[str, Any]], source: Path | None = None) -> BoxCounts:
    """Outcomes of COCO results (``image_id``, ``category_id``, ``bbox`` xywh px, ``score``) on a whole split.

    ``source`` names the file of the detections in messages. Raises UserError for malformed entries and for
    detections of unknown images or categories.
    """
    found = found_in(table, detections, str(source or "detections"))
    groups = found.images * len(table.classes) + found.labels
    by_score = np.lexsort((-found.scores, groups))  # stable: equal scores keep the file's order
    objects = Objects.of(table)
    of_object = objects.images * len(table.classes) + objects.labels
    by_group = np.argsort(of_object, kind="stable")
    present, starts = np.unique(groups[by_score], return_index=True)
    bounds = np.stack([np.searchsorted(of_object[by_group], present, side) for side in ("left", "right")], axis=1)
    parts = np.split(by_score, starts[1:])
    counts = BoxCounts()
    for part, (start, stop) in zip(parts, bounds, strict=False):  # of no detections np.split makes one empty part
        places = by_group[start:stop]
        counts += _count_group(found.boxes[part], objects.boxes[places], objects.crowd[places])
    return counts


def _count_group(ordered: NDArray[np.float64], objects: NDArray[np.float64], crowds: NDArray[np.bool_]) -> BoxCounts:
    """Detections (D,4) xywh in descending score and objects (G,4) of one class in one image."""
    if not len(objects):
        return BoxCounts(elsewhere=len(ordered))
    overlaps = mask.iou(ordered, objects, crowds.tolist())  # with a crowd: share of the detection's area
    in_crowd = (overlaps[:, crowds] >= MATCH_IOU).any(axis=1)
    return assign_outcomes(overlaps[:, ~crowds], in_crowd)


def assign_outcomes(overlaps: NDArray[np.float64], in_crowd: NDArray[np.bool_]) -> BoxCounts:
    """Outcomes from IoU (D,G) of detections in descending score with objects; ``in_crowd`` is (D,)."""
    counts = dict.fromkeys((field.name for field in dataclasses.fields(BoxCounts)), 0)
    free = np.ones(overlaps.shape[1], bool)
    for row, crowd in zip(overlaps, in_crowd, strict=True):
        outcome = _outcome(row, free, bool(crowd))
        if outcome == "correct":
            free[np.where(free, row, -1.0).argmax()] = False
        counts[outcome] += 1
    return BoxCounts(**counts)


def _outcome(row: NDArray[np.float64], free: NDArray[np.bool_], crowd: bool) -> str:
    largest = row.max(initial=0.0)
    if row[free].max(initial=0.0) >= MATCH_IOU:
        return "correct"
    if crowd:
        return "on_crowd"
    if largest >= MATCH_IOU:
        return "redundant"
    return "error" if largest > ERROR_IOU else "elsewhere"
