"""Which classes a detector takes for which: detections above a threshold against objects, whatever their classes."""

import numpy as np
from numpy.typing import NDArray

from tood.evaluation.error_kinds import DetectionErrors, free_greedy, overlaps


def confusion_matrix(errors: DetectionErrors, classes: int, threshold: float) -> NDArray[np.int64]:
    """Counts (C+1,C+1): rows are true classes, the last one no object; columns what was said, the last one nothing.

    Detections scoring at least ``threshold`` take objects by IoU of 0.5 or more, the best score first, objects of their
    own class before others. Crowd regions and what they excuse are left out.
    """
    found, objects = errors.found, errors.objects
    table = np.zeros((classes + 1, classes + 1), np.int64)
    kept = np.flatnonzero(errors.counted & (found.scores >= threshold - 1e-12))
    order = kept[np.lexsort((-found.scores[kept], found.images[kept]))]
    real = np.flatnonzero(~objects.crowd)
    seen = np.zeros(len(objects.labels), bool)
    images = np.union1d(found.images[order], objects.images[real])
    for image in images.tolist():
        part = order[slice(*np.searchsorted(found.images[order], [image, image + 1]))]
        there = real[slice(*np.searchsorted(objects.images[real], [image, image + 1]))]
        overlap = overlaps(found.boxes[part], objects.boxes[there], crowd=False)
        own = objects.labels[there][None] == found.labels[part][:, None]
        has = free_greedy(np.where(own, overlap, 0.0))
        taken = np.zeros(len(there), bool)
        taken[has[has >= 0]] = True
        left = np.flatnonzero(has < 0)
        other = free_greedy(np.where(taken[None], 0.0, overlap[left]))
        has[left] = other
        hit = has >= 0
        np.add.at(table, (objects.labels[there[has[hit]]], found.labels[part[hit]]), 1)
        np.add.at(table, (np.full((~hit).sum(), classes), found.labels[part[~hit]]), 1)
        seen[there[has[hit]]] = True
    missed = real[~seen[real]]
    np.add.at(table, (objects.labels[missed], np.full(len(missed), classes)), 1)
    return table
