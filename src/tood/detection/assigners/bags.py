"""Anchor bags: the anchors that overlap an object most (FreeAnchor, MAL, NoisyAnchor)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tood.detection.assigners.assignment import chunk_length, elements_at_once
from tood.detection.boxes import box_area, rows_iou
from tood.detection.points import Points
from tood.detection.ranking import top_first
from tood.detection.targets import Targets


@dataclass(frozen=True, eq=False)
class Bags:
    """Every object's K anchors of largest overlap, the largest first; all (B, G, K), without gradient."""

    locations: Tensor
    """int64 index of the anchor."""
    iou: Tensor
    """Overlap of anchor and object; 0 where ``exists`` is false."""
    exists: Tensor
    """bool: an anchor that takes part, of an object and not of an empty slot."""


@torch.no_grad()
def anchor_bags(
    points: Points,
    targets: Targets,
    valid: Tensor | None,
    *,
    size: int,
    first: bool = True,
    dense_elements: int | None = None,
) -> Bags:
    """The ``size`` anchors of largest overlap with every object; all N of them where there are no more.

    ``valid`` (B, N) marks the anchors that take part; None lets all do so, also those beyond an image's own
    padding. Of equal overlaps the lower index comes ``first``, or whichever ``Tensor.topk`` takes. An anchor may lie in
    several bags, and one that overlaps nothing too if its bag is not full without.
    The dense part over objects and anchors is done in pieces of at most ``dense_elements``, by default what suits
    the device. An empty batch of slots counts as one empty slot (:meth:`Targets.with_a_slot`).
    """
    targets = targets.with_a_slot()
    images, length = targets.boxes.shape[0], points.anchors.shape[0]
    anchors = points.anchors.to(targets.boxes.dtype)
    sides, areas = anchors.T.contiguous()[None], box_area(anchors)[None]
    if dense_elements is None:
        dense_elements = elements_at_once(anchors.device)
    locations, overlaps = [], []
    for boxes in torch.split(targets.boxes, chunk_length(images, length, dense_elements), dim=1):
        iou = rows_iou(boxes, sides, areas)
        if valid is not None:
            iou.masked_fill_(~valid[:, None], -1)
        count = min(size, length)
        values, indices = top_first(iou, count) if first else iou.topk(count, dim=2)
        locations.append(indices)
        overlaps.append(values)
    iou = torch.cat(overlaps, dim=1)
    exists = (iou >= 0) & targets.valid[..., None]
    return Bags(locations=torch.cat(locations, dim=1), iou=iou * exists, exists=exists)
