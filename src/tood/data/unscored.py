"""Splits on which no AP is defined, since none of their objects counts: why, and the likely cause."""

import numpy as np
from numpy.typing import NDArray

from tood.data.counted_objects import ALL_AREAS, is_counted
from tood.data.findings import Findings, plural
from tood.data.formats.records import RawSplit
from tood.data.split_table import SplitTable


def why_unscored(crowd: NDArray[np.bool_], areas: NDArray[np.float64]) -> str:
    """Why no AP is defined on a split of these objects, and the likely cause; empty where one is."""
    if is_counted(crowd, areas).any():
        return ""
    if not len(crowd):
        return "has no objects at all; see that its annotations or labels are where they are looked for"
    if crowd.all():
        return (
            f"has no object that AP counts, for its {plural(len(crowd), 'box')} are crowd regions ('iscrowd' in COCO, "
            "difficult in VOC); annotate single objects, or in VOC set 'difficult: keep'"
        )
    return (
        f"has no object that AP counts: areas must lie between {ALL_AREAS[0]:g} and {ALL_AREAS[1]:g} px; correct them"
    )


def find_unscored(split: RawSplit, where: object, findings: Findings) -> None:
    """Report a split, as read, on which no AP is defined: an error for ``val``, which every training is measured on."""
    crowd = np.array([box.crowd for box in split.boxes], bool)
    why = why_unscored(crowd, np.array([box.area for box in split.boxes], np.float64))
    if split.images and why:
        say = findings.error if split.name == "val" else findings.note
        say(where, f"split '{split.name}' {why}")


def unscored(table: SplitTable) -> str:
    """Why no AP is defined on a prepared split; empty where one is."""
    _, _, known = table.locate_annotations()
    return why_unscored(table.annotations.crowd[known], table.annotations.areas[known])
