"""Detections of tiles merged into those of their picture: an object in several tiles, or cut at a seam, counts once."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tood.config.method import InferenceConfig
from tood.detection.postprocess import Detections

CUT_IOU = 0.5
"""Detections of which one is cut are the same object if they overlap as much in the area that both tiles see."""
CUT_SHARE = 0.7
"""Or if so much of the area of one that is cut lies in the other."""
_EDGE = 0.01  # of a tile's longer side; detections this close to an inner edge may be cut there


def merge_tiles(found: Sequence[Detections], windows: Tensor, config: InferenceConfig) -> Detections:
    """Detections of a picture, best first, from those ``found`` in its tiles, in px of these.

    ``windows`` (T,4) are left, top, width and height px of the tiles in the picture, which they cover. Detections of
    one class from two tiles are one object if they overlap by more than ``nms_iou``, as within a tile. One may be cut
    by an edge of its tile inside the picture; then their parts in the area that both tiles see are compared. The
    best score is kept, with the box of the best that is not cut. If all are cut, the best box is extended over the
    edges that cut it to where the others end. Of a single tile the detections are the picture's as they are.
    """
    if len(found) == 1:
        return found[0]
    counts = torch.tensor([len(one.scores) for one in found])
    offsets = torch.cat([windows[:, :2], windows[:, :2]], dim=1)
    boxes = torch.cat([one.boxes + offset.to(one.boxes) for one, offset in zip(found, offsets, strict=True)])
    scores, labels = torch.cat([one.scores for one in found]), torch.cat([one.labels for one in found])
    tiles = torch.repeat_interleave(torch.arange(len(found)), counts)
    order = scores.argsort(descending=True, stable=True)
    boxes, scores, labels, tiles = boxes[order], scores[order], labels[order], tiles[order]
    corners = torch.cat([windows[:, :2], windows[:, :2] + windows[:, 2:]], dim=1).double()
    cut = _cut_sides(boxes, corners[tiles], corners)
    within = _clipped(boxes.double(), corners[tiles])
    pairs = _same_objects(within, labels, tiles, corners, cut.any(dim=1), config.nms_iou)
    groups = _groups(len(boxes), pairs, cut.any(dim=1).tolist())[: config.max_detections]
    best = torch.tensor([members[0] for members in groups], dtype=torch.int64)
    merged = [_whole(boxes, cut, members) for members in groups]
    return Detections(torch.stack(merged) if merged else boxes, scores[best], labels[best])


def _cut_sides(boxes: Tensor, own: Tensor, corners: Tensor) -> Tensor:
    """(D,4) whether a detection ends at the left, top, right, bottom edge of its tile, and the picture goes on there.

    ``own`` (D,4) and ``corners`` (T,4) are xyxy px.
    """
    picture = torch.cat([corners[:, :2].amin(0), corners[:, 2:].amax(0)])
    margin = _EDGE * (own[:, 2:] - own[:, :2]).amax(dim=1, keepdim=True)
    exact = boxes.double()
    before, after = exact[:, :2] - own[:, :2], own[:, 2:] - exact[:, 2:]
    return (torch.cat([before, after], dim=1) <= margin) & (own != picture)


def _same_objects(
    within: Tensor, labels: Tensor, tiles: Tensor, corners: Tensor, cut: Tensor, nms_iou: float
) -> Tensor:
    """(P,2) pairs of detections of the same object, from different tiles; ``within`` (D,4) are the boxes in these."""
    members = tiles.argsort(stable=True).split(tiles.bincount(minlength=len(corners)).tolist())
    pairs = [torch.zeros((0, 2), dtype=torch.int64)]
    for one, other, shared in _overlapping(corners):
        first, second = (these[_areas(_clipped(within[these], shared)) > 0] for these in (members[one], members[other]))
        a, b = within[first][:, None], within[second][None]
        a_cut, b_cut = cut[first][:, None], cut[second][None]
        common = _areas(_clipped(a, b))
        same = common > nms_iou * (_areas(a) + _areas(b) - common)
        in_shared = _areas(_clipped(a, shared)) + _areas(_clipped(b, shared)) - common
        same |= (a_cut | b_cut) & (common >= CUT_IOU * in_shared)
        same |= (a_cut & (common >= CUT_SHARE * _areas(a))) | (b_cut & (common >= CUT_SHARE * _areas(b)))
        row, column = (same & (labels[first][:, None] == labels[second])).nonzero(as_tuple=True)
        pairs.append(torch.stack([first[row], second[column]], dim=1))
    return torch.cat(pairs)


def _overlapping(corners: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Pairs of tiles and the area (4,) xyxy px that both see."""
    for one in range(len(corners) - 1):
        shared = _clipped(corners[one + 1 :], corners[one])
        for place in (_areas(shared) > 0).nonzero().squeeze(1).tolist():
            yield one, one + 1 + place, shared[place]


def _clipped(boxes: Tensor, areas: Tensor) -> Tensor:
    """The parts of boxes (...,4) xyxy within areas (...,4)."""
    lower, upper = torch.maximum(boxes[..., :2], areas[..., :2]), torch.minimum(boxes[..., 2:], areas[..., 2:])
    return torch.cat([lower, upper], dim=-1)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def _groups(count: int, pairs: Tensor, cut: Sequence[bool]) -> list[list[int]]:
    """Detections of the same object, the best of each group first; all ``count`` are given best first.

    If the best is cut, what is paired with a whole one, or with others that are cut, belongs to the group too.
    """
    neighbours: dict[int, list[int]] = {}
    for one, other in pairs.tolist():
        neighbours.setdefault(one, []).append(other)
        neighbours.setdefault(other, []).append(one)
    groups: list[list[int]] = []
    taken = [False] * count
    for best in range(count):
        if taken[best]:
            continue
        taken[best] = True
        members = [best]
        whole = None if cut[best] else best
        for member in members:  # grows meanwhile
            if whole is None and not cut[member]:
                whole = member
            if member in (best, whole) or (cut[best] and cut[member]):
                new = [other for other in sorted(neighbours.get(member, ())) if not taken[other]]
                for other in new:
                    taken[other] = True
                members += new
        groups.append(members)
    return groups


def _whole(boxes: Tensor, cut: Tensor, members: list[int]) -> Tensor:
    """The box (4,) of an object from its detections, best first."""
    if len(members) == 1:
        return boxes[members[0]]
    whole = (~cut[members].any(dim=1)).nonzero().squeeze(1).tolist()
    if whole:
        return boxes[min(members[place] for place in whole)]
    every = boxes[members]
    outermost = torch.cat([every[:, :2].amin(0), every[:, 2:].amax(0)])
    return torch.where(cut[members[0]], outermost, boxes[members[0]])
