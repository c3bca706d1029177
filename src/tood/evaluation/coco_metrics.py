"""COCO metrics (AP, AR), equal to pycocotools' to the last digit and many times as fast.

One pass gives the twelve numbers, AP and AP50 per class, precision-recall curves at IoU 0.5 and, for the
bootstrap, the outcome of every detection (``MatchRecords``). Thresholds, areas and recalls are those of pycocotools;
``tests/evaluation/test_equality.py`` compares every table with it.

The values differ where pycocotools is wrong: it notes a detection's object by its annotation id, with 0 for none, so
an object with the id 0 counts as missed and its detection as false. Here ids only tell objects apart: the values are
those that pycocotools has once the ids begin at 1. (Of annotations that share an id it keeps the last; data sets with
such ids are refused when they are prepared. Without any detection it stops with an error; here all AP are 0.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.cocoeval import Params

from tood.data.split_table import SplitTable
from tood.evaluation.coco_matching import Matching, match
from tood.evaluation.coco_tables import fill_tables
from tood.evaluation.ground_truth import found_in
from tood.evaluation.match_records import MatchRecords, match_records, scores_at_recalls

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
RECALLS = np.linspace(0.0, 1.0, 101)
PR_IOU = 0.5
_COCO = Params(iouType="bbox")
_THRESHOLDS, _AREAS = np.asarray(_COCO.iouThrs), np.asarray(_COCO.areaRng, np.float64)
_AP_LIMIT = 100  # the limit on detections that AP is read at


@dataclass(frozen=True)
class ClassResult:
    """AP of one class as a fraction; None where the split has no object of the class."""

    ap: float | None
    ap50: float | None


@dataclass(frozen=True)
class CocoResult:
    """Result of one evaluation. All values are fractions (0-1), None where there is nothing to measure.

    ``stats`` has the twelve COCO numbers under the names of ``STATS``; ``precision`` (C,101) is the
    interpolated precision at IoU 0.5 at the recalls ``RECALLS``, NaN in the rows of classes without objects.
    """

    images: int
    stats: Mapping[str, float | None]
    per_class: Mapping[str, ClassResult]
    precision: np.ndarray
    scores: np.ndarray
    """(C,101) the score at which each recall is reached at IoU 0.5, 0 where it is not, NaN as in ``precision``."""
    matches: MatchRecords


@dataclass(frozen=True)
class CocoTables:
    """Everything that COCO evaluation measures, NaN where there is nothing to measure.

    T IoU thresholds 0.5:0.95, R recalls ``RECALLS``, C classes by category id, A areas (all, small, medium,
    large), M limits on detections.
    """

    stats: Mapping[str, float | None]
    """The twelve COCO numbers, fractions."""
    precision: np.ndarray
    """(T,R,C,A,M) interpolated."""
    recall: np.ndarray
    """(T,C,A,M) the highest that was reached."""


def evaluate_detections(
    table: SplitTable,
    detections: Sequence[Mapping[str, Any]],
    *,
    max_detections: tuple[int, int, int] = (1, 10, 100),
) -> CocoResult:
    """Evaluate COCO results (``image_id``, ``category_id``, ``bbox`` xywh px, ``score``) on a whole split.

    ``max_detections`` are pycocotools' three limits per image and class; AP itself always uses 100.
    Raises UserError for detections of unknown images or categories and for malformed entries. An empty list is a
    valid result: AP 0 where there are objects.
    """
    matching = _match(table, detections, None, max(max_detections), _AREAS)
    tables = _measure(matching, max_detections)
    precision = tables.precision[:, :, :, 0, -1]  # (T,101,C), area all, largest limit
    at_50 = precision[int(np.argmin(np.abs(_THRESHOLDS - PR_IOU)))].T  # (C,101)
    per_class = {
        name: ClassResult(_defined(precision[:, :, c]), _defined(at_50[c])) for c, name in enumerate(table.classes)
    }
    records = match_records(matching, table.image_ids)
    return CocoResult(
        images=len(table.image_ids),
        stats=tables.stats,
        per_class=per_class,
        precision=at_50,
        scores=scores_at_recalls(records, RECALLS, int(np.argmin(np.abs(_THRESHOLDS - PR_IOU)))),
        matches=records,
    )


def coco_tables(
    table: SplitTable, detections: Sequence[Mapping[str, Any]], *, max_detections: tuple[int, int, int] = (1, 10, 100)
) -> CocoTables:
    """The full tables behind ``evaluate_detections``, which raises the same UserErrors."""
    return _measure(_match(table, detections, None, max(max_detections), _AREAS), max_detections)


def match_detections(
    table: SplitTable, detections: Sequence[Mapping[str, Any]], *, source: Path | None = None
) -> MatchRecords:
    """Only the records for the bootstrap (objects of all sizes).

    Raises UserError like ``evaluate_detections``; ``source`` names the file of the detections in it.
    """
    return match_records(_match(table, detections, source, _AP_LIMIT, _AREAS[:1]), table.image_ids)


def _match(
    table: SplitTable, detections: Sequence[Mapping[str, Any]], source: Path | None, limit: int, areas: np.ndarray
) -> Matching:
    found = found_in(table, detections, str(source or "detections"))
    return match(table, found, limit=limit, thresholds=_THRESHOLDS, areas=areas)


def _measure(matching: Matching, max_detections: tuple[int, int, int]) -> CocoTables:
    limits = sorted(max_detections)
    precision, recall = fill_tables(matching, RECALLS, np.array(limits))
    stats = _twelve(precision, recall, limits)
    return CocoTables(
        stats={name: None if value < 0 else value for name, value in zip(STATS, stats, strict=True)},
        precision=np.where(precision < 0, np.nan, precision),
        recall=np.where(recall < 0, np.nan, recall),
    )


def _twelve(precision: np.ndarray, recall: np.ndarray, limits: Sequence[int]) -> list[float]:
    """Twelve means over defined values, -1 without any; summed in pycocotools' order, which decides the last bit."""
    last = precision[..., -1]  # (T,R,C,A)
    half, three_quarters = (int(np.argmin(np.abs(_THRESHOLDS - iou))) for iou in (0.5, 0.75))
    values = [
        precision[..., 0, limits.index(_AP_LIMIT)] if _AP_LIMIT in limits else np.zeros(0),
        last[half, ..., 0],
        last[three_quarters, ..., 0],
        *(last[..., area] for area in (1, 2, 3)),
        *(recall[..., 0, place] for place in range(len(limits))),
        *(recall[..., area, -1] for area in (1, 2, 3)),
    ]
    return [float(np.mean(table[table > -1])) if (table > -1).any() else -1.0 for table in values]


def _defined(values: np.ndarray) -> float | None:
    """Mean of the defined values in a part of the precision table."""
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if valid.size else None
