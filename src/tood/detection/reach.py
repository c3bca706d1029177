"""Reach of the pyramid: which objects contain a location, without which some assigners never choose a sample."""

import torch
from torch import Tensor

from tood.config.parts import CriterionPart, parts_of
from tood.data.network_input import PAD_MULTIPLE
from tood.detection.assigners.assignment import CENTRE_MARGIN
from tood.detection.assigners.atss import AtssAssigner
from tood.detection.assigners.base import Assigner
from tood.detection.assigners.center_sampling import CenterSamplingAssigner
from tood.detection.assigners.task_aligned import TaskAlignedAssigner
from tood.detection.points import STRIDES

_MARGINS = ((AtssAssigner, CENTRE_MARGIN), (TaskAlignedAssigner, CENTRE_MARGIN), (CenterSamplingAssigner, 0.0))
"""Pixels by which a location must lie inside an object to be assigned to it."""


def centre_margin(criterion: CriterionPart) -> float | None:
    """Pixels by which locations must lie inside the objects of their samples, whichever phase a training is in.

    None where some sample may lie elsewhere: its assigners do not ask for it, or it has none.
    """
    margins = [_margin(part) for part in parts_of(criterion) if isinstance(part, Assigner)]
    known = [margin for margin in margins if margin is not None]
    return min(known) if known and len(known) == len(margins) else None


def _margin(assigner: Assigner) -> float | None:
    """What an assigner, or the one that it derives from, asks for; None for one that needs no location inside."""
    return next((margin for kind, margin in _MARGINS if isinstance(assigner, kind)), None)


def contain_location(boxes: Tensor, sizes: Tensor, margin: float) -> Tensor:
    """(n,) bool: whether a location of any level lies inside, farther than ``margin`` px from every side.

    ``boxes`` (n, 4) xyxy px of the network's input; ``sizes`` (n, 2) are the (w, h) of the resized, un-padded images.
    Locations are those of ``points.make_points`` that ``points.valid_points`` keeps.
    """
    padded = (sizes + (PAD_MULTIPLE - 1)) // PAD_MULTIPLE * PAD_MULTIPLE
    found = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    for stride in STRIDES:
        # Only the first location beyond the left (upper) side can decide, unless it is closer to it than the margin.
        behind = torch.floor(low / stride) + torch.arange(3, device=boxes.device)[None, :, None]
        at = behind * stride
        inside = (at - low > margin) & (high - at > margin) & (behind >= 0) & (at < padded[:, None])
        found |= inside.any(dim=1).all(dim=1)
    return found
