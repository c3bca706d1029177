"""``coco_*_eval``: COCO evaluation of recorded detections."""

from pathlib import Path

import numpy as np

from reference_check.folder import Arrays, read_arrays, read_json
from reference_check.rows import Report, Tolerance
from tood.data.split_table import SplitTable
from tood.evaluation.coco_metrics import STATS, CocoTables, coco_tables

NUMBERS = Tolerance(absolute=1e-9)
AREAS = {"AP": 0, "APs": 1, "APm": 2, "APl": 3}
AT_IOU = {"AP50": 0, "AP75": 5}


def check_coco(folder: Path, stem: str, report: Report) -> None:
    """The limits on detections of each section, with ``<name>_gt.json`` and ``<name>_dets.json`` beside it."""
    name = stem.removesuffix("_eval")
    reference, arrays = read_json(folder / f"{stem}.json"), read_arrays(folder / f"{stem}.npz")
    table = SplitTable.of_json(folder / f"{name}_gt.json")
    detections = read_json(folder / f"{name}_dets.json")
    if "category_order" in reference:
        report.compare("category_order", table.category_ids.tolist(), reference["category_order"], NUMBERS)
    for tag, section in reference.items():
        if not (isinstance(section, dict) and "max_dets" in section):
            continue
        report.at(f"{tag}: ")
        found = coco_tables(table, detections, max_detections=tuple(section["max_dets"]))
        # The recalls carry their limit in the name (AR@300, ARs@1000); the order of the twelve never changes.
        for ours, (theirs, value) in zip(STATS, section["stats"].items(), strict=True):
            report.compare(theirs, _recorded(found.stats[ours]), _recorded(value), NUMBERS)
        for class_name, numbers in section["per_class"].items():
            index = table.classes.index(class_name)
            for quantity, value in numbers.items():
                report.compare(f"{class_name} {quantity}", _of_class(found, index, quantity), _recorded(value), NUMBERS)
        _compare_tables(found, arrays, tag, report)


def _recorded(value: float | None) -> float:
    """Undefined numbers are -1 in the reference."""
    return -1.0 if value is None else value


def _of_class(found: CocoTables, index: int, quantity: str) -> float:
    """A class's average at the largest limit, -1 where nothing is defined."""
    if quantity == "AR":
        values = found.recall[:, index, 0, -1]
    elif quantity in AT_IOU:
        values = found.precision[AT_IOU[quantity], :, index, 0, -1]
    else:
        values = found.precision[:, :, index, AREAS[quantity], -1]
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else -1.0


def _compare_tables(found: CocoTables, arrays: Arrays, tag: str, report: Report) -> None:
    tables = {"precision_all": found.precision[:, :, :, 0, -1], "recall": found.recall}
    for name, values in tables.items():
        report.compare(name, np.nan_to_num(values, nan=-1.0), arrays[f"{tag}_{name}"], NUMBERS)
