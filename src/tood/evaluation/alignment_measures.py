"""Alignment of score and IoU for each object, from dense predictions before NMS.

Table 6 of the paper measures it by the rank correlation of score and IoU over the 50 most confident anchors of an
object, and by the mean IoU of the 10 most confident. The paper leaves open which predictions belong to an object;
``DEFINITIONS`` says what is chosen here, and is stored beside the numbers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tood.detection.boxes import pairwise_iou

RANKED = 50
AVERAGED = 10
_BLOCK = 2_000_000  # anchors times objects looked at together: some 50 MB

DEFINITIONS = {
    "objects": (
        "Every annotated object of the split that is no crowd region. Boxes are compared in the original image's or "
        "the network's pixels, whichever is at hand: IoU does not depend on the scale of either axis."
    ),
    "candidates": (
        "Before NMS and without a score threshold: all anchors whose predicted box overlaps the object (IoU > 0), "
        "ranked by their final score for the object's class (class score, times centerness where the head has it); "
        f"of equal scores the finer level comes first. The {RANKED} most confident of them are the object's candidates."
    ),
    "pcc_top50": (
        "Pearson correlation of the ranks of score and of IoU (Spearman's; equal values share the mean of their ranks) "
        f"over an object's {RANKED} most confident candidates, averaged over objects. Objects with fewer than 2 "
        "candidates, or whose candidates all have one score or one IoU, have none and are left out."
    ),
    "iou_top10": (
        f"Mean IoU of an object's {AVERAGED} most confident candidates (of all, where there are fewer), averaged over "
        "objects. Objects without candidates are left out."
    ),
}


@dataclass(frozen=True, eq=False)
class ObjectAlignment:
    """Alignment of the dense predictions of one image for its G objects; K = ``RANKED`` slots of candidates."""

    scores: Tensor
    """(G,K) of the candidates, most confident first."""
    ious: Tensor
    """(G,K) of the same candidates with the object."""
    valid: Tensor
    """(G,K) bool, false in empty slots."""
    correlation: Tensor
    """(G,) float64 rank correlation of score and IoU, NaN where undefined."""
    top_iou: Tensor
    """(G,) float64 mean IoU of the most confident, NaN without candidates."""
    anchors: Tensor
    """(G,2) int64: of all that overlap the object, the one with the highest score and the one with the highest IoU;
    without meaning where no candidate is valid."""
    anchor_scores: Tensor
    """(G,2) of these anchors."""
    anchor_ious: Tensor
    """(G,2) of these anchors with the object."""


def align_objects(scores: Tensor, boxes: Tensor, objects: Tensor, labels: Tensor) -> ObjectAlignment:
    """Rank the anchors of one image for each object.

    ``scores`` (N,C) are final scores and ``boxes`` (N,4) predicted boxes of at least one anchor; ``objects`` (G,4)
    and ``labels`` (G,) the objects, boxes in the same pixels. Objects are looked at in blocks of bounded size.
    """
    size = max(1, _BLOCK // max(len(boxes), RANKED**2))
    blocks = [
        _align_block(scores, boxes, objects[start : start + size], labels[start : start + size])
        for start in range(0, max(1, len(objects)), size)
    ]
    return ObjectAlignment(
        **{name: torch.cat([getattr(block, name) for block in blocks]) for name in ObjectAlignment.__dataclass_fields__}
    )


def _align_block(scores: Tensor, boxes: Tensor, objects: Tensor, labels: Tensor) -> ObjectAlignment:
    overlaps = pairwise_iou(objects, boxes)  # (G,N)
    of_class = scores[:, labels].T  # (G,N)
    ordered, order = torch.where(overlaps > 0, of_class, -1.0).sort(dim=1, descending=True, stable=True)
    anchors = torch.stack([order[:, 0], overlaps.argmax(dim=1)], dim=1)
    ordered, order = _filled(ordered, -1.0), _filled(order, 0)
    valid = ordered >= 0
    values = torch.where(valid, ordered, 0.0)
    ious = torch.where(valid, overlaps.gather(1, order), 0.0)
    return ObjectAlignment(
        scores=values,
        ious=ious,
        valid=valid,
        correlation=rank_correlation(values, ious, valid),
        top_iou=_masked_mean(ious[:, :AVERAGED].double(), valid[:, :AVERAGED]),
        anchors=anchors,
        anchor_scores=of_class.gather(1, anchors),
        anchor_ious=overlaps.gather(1, anchors),
    )


def _filled(ordered: Tensor, filler: float) -> Tensor:
    """The first ``RANKED`` columns, filled up where there are fewer."""
    cut = ordered[:, :RANKED]
    return torch.nn.functional.pad(cut, (0, RANKED - cut.shape[1]), value=filler)


def _masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid part of each row, NaN for rows without any: (G,K), (G,K) -> (G,)."""
    return (values * valid).sum(dim=1) / valid.sum(dim=1)


def average_ranks(values: Tensor, valid: Tensor) -> Tensor:
    """Ranks from 1 among the valid entries of each row; equal values share their mean: (G,K), (G,K) -> (G,K)."""
    others, own = values[:, None, :], values[:, :, None]
    below = ((others < own) & valid[:, None, :]).sum(dim=2)
    equal = ((others == own) & valid[:, None, :]).sum(dim=2)
    return below + (equal.double() + 1) / 2


def rank_correlation(first: Tensor, second: Tensor, valid: Tensor) -> Tensor:
    """Spearman's correlation of the valid entries of each row: (G,K) three times -> (G,) float64.

    NaN where fewer than two entries are valid or one of the two is constant.
    """
    centre = (valid.sum(dim=1, keepdim=True).double() + 1) / 2  # the mean rank, also with ties
    a = (average_ranks(first, valid) - centre) * valid
    b = (average_ranks(second, valid) - centre) * valid
    return ((a * b).sum(dim=1) / ((a * a).sum(dim=1) * (b * b).sum(dim=1)).sqrt()).clamp(-1, 1)
