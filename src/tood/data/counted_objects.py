"""Which objects COCO's AP counts; the rule of evaluation and of everything that foresees it."""

import numpy as np
from numpy.typing import NDArray

from tood.data.split_table import SplitTable

ALL_AREAS = (0.0, 1e10)
"""Areas (px) of the objects behind AP, pycocotools' range "all"; both ends belong to it."""


def is_counted(
    crowd: NDArray[np.bool_], areas: NDArray[np.float64], limits: tuple[float, float] | NDArray[np.float64] = ALL_AREAS
) -> NDArray[np.bool_]:
    """(N,) whether objects count: those that are no crowd and whose area, as annotated, lies within ``limits``.

    As in pycocotools, which overwrites an annotation's ``ignore`` by its ``iscrowd`` and so counts ignored objects.
    """
    return ~(crowd | (areas < limits[0]) | (areas > limits[1]))


def counted_annotations(table: SplitTable) -> NDArray[np.bool_]:
    """(N,) the annotations of a split that AP counts."""
    _, _, known = table.locate_annotations()
    return known & is_counted(table.annotations.crowd, table.annotations.areas)


def counted_objects(table: SplitTable) -> NDArray[np.int64]:
    """(C,) the objects of each class of a split that AP counts."""
    _, labels, _ = table.locate_annotations()
    return np.bincount(labels[counted_annotations(table)], minlength=len(table.classes))
