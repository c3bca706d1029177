"""Assignment: the result of an assigner, and how a conflict of objects over a location is settled."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tood.detection.boxes import aligned_iou
from tood.detection.points import Points
from tood.detection.targets import Targets

CENTRE_MARGIN = 0.01
"""Pixels by which a location's centre must lie inside an object."""
DENSE_ELEMENTS = 1 << 24
"""Elements of a dense (B, G, N) tensor that are computed at once."""
CACHED_ELEMENTS = 400_000
"""Elements that a CPU computes at once: a few such tensors of float32 stay in its caches."""


@dataclass(frozen=True, eq=False)
class Assignment:
    """The object that every location is trained to detect; all (B, N), without gradient."""

    gt_index: Tensor
    """int64 index of the object, -1 for background."""
    iou: Tensor
    """Overlap with the object, 0 for background."""
    metric: Tensor
    """What the assigner ranks by, for the object chosen; 0 for background."""
    target: Tensor
    """Soft classification target of the location, in [0, 1]; 0 for background."""
    ignored: Tensor | None = None
    """bool: neither object nor background, so without part in the loss; None if the assigner ignores nothing."""

    @property
    def positive(self) -> Tensor:
        return self.gt_index >= 0

    def counted(self, valid: Tensor) -> Tensor:
        """The ``valid`` (B, N) locations that the classification loss counts."""
        return valid if self.ignored is None else valid & ~self.ignored


def prior_assignment(
    points: Points, targets: Targets, gt_index: Tensor, *, ignored: Tensor | None = None
) -> Assignment:
    """The assignment of objects ``gt_index`` (B, N) with the IoU of the anchors as overlaps."""
    boxes, _ = targets.take(gt_index)
    positive = (gt_index >= 0).to(boxes.dtype)
    iou = aligned_iou(points.anchors.to(boxes.dtype), boxes) * positive
    return Assignment(gt_index=gt_index, iou=iou, metric=iou, target=positive, ignored=ignored)


def chunk_length(images: int, locations: int, elements: int) -> int:
    """Objects to treat at once so that a dense (B, G, N) tensor stays below ``elements``."""
    return max(1, elements // max(1, images * locations))


def elements_at_once(device: torch.device) -> int:
    """Number of elements of a dense tensor to compute at once on this device."""
    return CACHED_ELEMENTS if device.type == "cpu" else DENSE_ELEMENTS


def settle_conflicts(locations: Tensor, accepted: Tensor, cost: Tensor, num_locations: int) -> Tensor:
    """Give every location to the accepting object of least cost; equal costs go to the lower index.

    ``locations``, ``accepted`` and ``cost`` are (B, G, M): every object's M candidate locations.
    Returns the object per location (B, N) int64, -1 where no object accepts it.
    """
    images, objects, _ = locations.shape
    where = locations.flatten(1)
    cost = torch.where(accepted, cost, torch.inf).flatten(1)
    least = cost.new_full((images, num_locations), torch.inf).scatter_reduce(1, where, cost, "amin")
    wins = accepted.flatten(1) & (cost == least.gather(1, where))
    index = torch.arange(objects, device=locations.device)[:, None].expand_as(locations).flatten(1)
    index = torch.where(wins, index, objects)
    owner = index.new_full((images, num_locations), objects).scatter_reduce(1, where, index, "amin")
    return torch.where(owner == objects, -1, owner)
