"""The difference in AP between two lists of detections in the same images: what a change of the computation costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tood.data.split_table import SplitTable
from tood.evaluation.coco_metrics import match_detections
from tood.evaluation.row_differences import RowDifference, RowResamples, row_difference
from tood.evaluation.significance import default_resamples, draw_weights, resampled_ap


def difference_of(
    table: SplitTable, first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]
) -> RowDifference | None:
    """``first`` minus ``second``, of one detector each: its interval is over images alone.

    None where the split has no object. Raises UserError for detections of unknown images or categories.
    """
    images = len(table.image_ids)
    once = np.ones((images, 1), np.int32)
    weights = np.concatenate([once, draw_weights(images, default_resamples(images))], axis=1)
    rows = [RowResamples.of([resampled_ap(match_detections(table, one), weights)], images) for one in (first, second)]
    return row_difference(rows[0], rows[1], None, 1)
