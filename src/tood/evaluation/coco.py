"""COCO average precision: pycocotools is the reference, this module only feeds it and reads it.

One pass gives the twelve numbers, AP and AP50 per class, precision-recall curves at IoU 0.5 and, for the
bootstrap, what became of every detection (``MatchRecords``).
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tood.errors import UserError
from tood.evaluation.matches import MatchRecords, match_records
from tood.files import read_json

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
RECALLS = np.linspace(0.0, 1.0, 101)
PR_IOU = 0.5
_FIELDS = ("image_id", "category_id", "bbox", "score")


@dataclass(frozen=True)
class GroundTruth:
    """A parsed annotations file; load it once when the same split is evaluated many times."""

    source: Path
    coco: Any
    image_ids: tuple[int, ...]
    category_ids: tuple[int, ...]
    classes: tuple[str, ...]

    def object_counts(self) -> dict[str, int]:
        """Objects of each class in the split, crowds left out."""
        return {
            name: len(self.coco.getAnnIds(catIds=[category], iscrowd=False))
            for name, category in zip(self.classes, self.category_ids, strict=True)
        }


@dataclass(frozen=True)
class ClassResult:
    """AP of one class as a fraction; None where the split has no object of the class."""

    ap: float | None
    ap50: float | None


@dataclass(frozen=True)
class CocoResult:
    """What one evaluation says. All values are fractions (0-1), None where there is nothing to measure.

    ``stats`` has the twelve COCO numbers under the names of ``STATS``; ``precision`` (C,101) is the
    interpolated precision at IoU 0.5 at the recalls ``RECALLS``, NaN in the rows of classes without objects.
    """

    images: int
    stats: Mapping[str, float | None]
    per_class: Mapping[str, ClassResult]
    precision: np.ndarray
    matches: MatchRecords


@dataclass(frozen=True)
class CocoTables:
    """Everything that pycocotools measures, NaN where there is nothing to measure.

    T IoU thresholds 0.5:0.95, R recalls ``RECALLS``, C classes by category id, A areas (all, small, medium,
    large), M limits on detections.
    """

    stats: Mapping[str, float | None]
    """The twelve COCO numbers, fractions."""
    precision: np.ndarray
    """(T,R,C,A,M) interpolated."""
    recall: np.ndarray
    """(T,C,A,M) the highest that was reached."""


def load_ground_truth(annotations: Path) -> GroundTruth:
    """Read a COCO annotations file. Raises UserError if it is missing, unreadable or has no categories."""
    content = read_json(annotations)
    if not isinstance(content, dict) or not content.get("categories") or "images" not in content:
        raise UserError(f"{annotations}: needs 'images' and 'categories' to be evaluated against; prepare it again.")
    objects = [
        # Renumbered, because pycocotools takes an object with id 0 for "no match" and merges equal ids.
        {"iscrowd": 0, "area": entry["bbox"][2] * entry["bbox"][3], **entry, "id": number}
        for number, entry in enumerate(content.get("annotations", []), start=1)
    ]
    coco = _index(content["images"], content["categories"], objects)
    categories = sorted(content["categories"], key=lambda category: category["id"])
    return GroundTruth(
        source=Path(annotations),
        coco=coco,
        image_ids=tuple(sorted(coco.getImgIds())),
        category_ids=tuple(category["id"] for category in categories),
        classes=tuple(category["name"] for category in categories),
    )


def evaluate_detections(
    annotations: Path | GroundTruth,
    detections: Sequence[Mapping[str, Any]],
    *,
    max_detections: tuple[int, int, int] = (1, 10, 100),
    source: Path | None = None,
) -> CocoResult:
    """Evaluate COCO results (``image_id``, ``category_id``, ``bbox`` xywh px, ``score``) on a whole split.

    ``max_detections`` are pycocotools' three limits per image and class; AP itself always uses 100.
    ``source`` names the file of the detections in messages. Raises UserError for detections of unknown images
    or categories and for malformed entries. An empty list is a valid result: AP 0 where there are objects.
    """
    truth = annotations if isinstance(annotations, GroundTruth) else load_ground_truth(annotations)
    evaluation = _prepare(truth, detections, source)
    tables = _measure(evaluation, max_detections)
    table = tables.precision[:, :, :, 0, -1]  # (T,101,C), area all, largest limit
    at_50 = table[int(np.argmin(np.abs(evaluation.params.iouThrs - PR_IOU)))].T  # (C,101)
    per_class = {
        name: ClassResult(_defined(table[:, :, c]), _defined(at_50[c])) for c, name in enumerate(truth.classes)
    }
    return CocoResult(
        images=len(truth.image_ids),
        stats=tables.stats,
        per_class=per_class,
        precision=at_50,
        matches=match_records(evaluation),
    )


def coco_tables(
    truth: GroundTruth, detections: Sequence[Mapping[str, Any]], *, max_detections: tuple[int, int, int] = (1, 10, 100)
) -> CocoTables:
    """The full tables behind ``evaluate_detections``; UserError alike."""
    return _measure(_prepare(truth, detections, None), max_detections)


def match_detections(
    annotations: Path | GroundTruth, detections: Sequence[Mapping[str, Any]], *, source: Path | None = None
) -> MatchRecords:
    """Only the records for the bootstrap (objects of all sizes): a quarter of the work of a full evaluation.

    Raises UserError like ``evaluate_detections``.
    """
    truth = annotations if isinstance(annotations, GroundTruth) else load_ground_truth(annotations)
    evaluation = _prepare(truth, detections, source)
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    return match_records(evaluation)


def _measure(evaluation: Any, max_detections: tuple[int, int, int]) -> CocoTables:
    evaluation.params.maxDets = list(max_detections)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision, recall = (evaluation.eval[name] for name in ("precision", "recall"))
    return CocoTables(
        stats={name: None if value < 0 else float(value) for name, value in zip(STATS, evaluation.stats, strict=True)},
        precision=np.where(precision < 0, np.nan, precision),
        recall=np.where(recall < 0, np.nan, recall),
    )


def _prepare(truth: GroundTruth, detections: Sequence[Mapping[str, Any]], source: Path | None) -> Any:
    entries = checked_entries(truth, detections, str(source or "detections"))
    dataset = truth.coco.dataset
    return COCOeval(truth.coco, _index(dataset["images"], dataset["categories"], entries), iouType="bbox")


def checked_entries(truth: GroundTruth, detections: Sequence[Mapping[str, Any]], where: str) -> list[dict[str, Any]]:
    """Detections as annotations (copies: pycocotools writes into them), numbered in the order given.

    Raises UserError beginning with ``where`` for malformed entries and unknown images or categories.
    """
    images, categories = set(truth.image_ids), set(truth.category_ids)
    entries = []
    for index, detection in enumerate(detections):
        try:
            image_id, category_id, bbox, score = (detection[field] for field in _FIELDS)
            width, height = bbox[2], bbox[3]
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(
                f"{where}: entry {index} needs image_id, category_id, bbox [x, y, width, height] and score."
            ) from error
        if image_id not in images or category_id not in categories:
            what = f"image_id {image_id}" if image_id not in images else f"category_id {category_id}"
            raise UserError(
                f"{where}: entry {index} has {what}, which {truth.source} does not contain; "
                "evaluate on the split that the detections were made on."
            )
        if not np.isfinite(score):
            raise UserError(f"{where}: entry {index} has the score {score}; scores must be finite numbers.")
        entries.append(
            {
                "id": index + 1,
                "image_id": image_id,
                "category_id": category_id,
                "bbox": list(bbox),
                "area": width * height,
                "iscrowd": 0,
                "score": score,
            }
        )
    return entries


def _index(images: list[Any], categories: list[Any], annotations: list[Any]) -> Any:
    coco = COCO()
    coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _defined(values: np.ndarray) -> float | None:
    """Mean of what is defined in a part of the precision table."""
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if valid.size else None
