"""The TIDE authors' own program (``tidecv``), without the plots and windows that it imports."""

import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tood.data.split_table import SplitTable
from tood.evaluation.ground_truth import Objects, found_in

KINDS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")


def tide_costs(table: SplitTable, detections: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """What the authors' program says: AP50 gained (6,), fractions, and numbers of errors (6,), in our order."""
    data, quantify = _load()
    truth, found = data.Data("truth", max_dets=100), data.Data("found")
    for image in range(len(table.image_ids)):
        truth.add_image(image, str(image))
    objects = Objects.of(table)
    for image, label, box, crowd in zip(objects.images, objects.labels, objects.boxes, objects.crowd, strict=True):
        add = truth.add_ignore_region if crowd else truth.add_ground_truth
        add(int(image), int(label), box=list(box))
    given = found_in(table, detections, "detections")
    for image, label, box, score in zip(given.images, given.labels, given.boxes, given.scores, strict=True):
        found.add_detection(int(image), int(label), float(score), box=list(box))
    run = quantify.TIDERun(truth, found, 0.5, 0.1, quantify.TIDE.BOX, 100)
    gains = {error.short_name: gain for error, gain in run.fix_main_errors().items()}
    counts = {error.short_name: count for error, count in run.count_errors().items()}
    return np.array([gains[kind] / 100 for kind in KINDS]), np.array([counts[kind] for kind in KINDS])


def _load() -> tuple[Any, Any]:
    """The package needs OpenCV and seaborn for pictures only; stand-ins are enough where they are not installed."""
    for name in ("cv2", "seaborn"):
        if name not in sys.modules:
            stand_in: Any = ModuleType(name)
            stand_in.FONT_HERSHEY_SIMPLEX = 0
            sys.modules[name] = stand_in
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tidecv import data, quantify
    return data, quantify
