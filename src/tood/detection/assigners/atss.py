"""Adaptive training sample selection (Zhang et al. 2020, algorithm 1)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tood.config.base import PositiveInt
from tood.detection.assigners.assignment import CENTRE_MARGIN, Assignment, prior_assignment, settle_conflicts
from tood.detection.assigners.base import Assigner
from tood.detection.boxes import aligned_iou, inner_margin
from tood.detection.points import Points
from tood.detection.ranking import top_first
from tood.detection.targets import Targets
from tood.detection.training_batch import TrainingBatch


@dataclass(frozen=True, eq=False)
class AtssCandidates:
    """Every object's nearest anchors; M of them, all levels together."""

    locations: Tensor
    """(B, G, M) int64."""
    nearest: Tensor
    """(B, G, M) bool, false where a level has fewer valid locations than asked for."""
    iou: Tensor
    """(B, G, M) overlap of anchor and object."""
    threshold: Tensor
    """(B, G) mean + standard deviation (n - 1) of the overlaps; inf with fewer than two candidates."""
    accepted: Tensor
    """(B, G, M) bool: overlap reaches the threshold and the centre lies inside the object."""


class AtssAssigner(Assigner):
    """The ``topk`` nearest anchors of each level, threshold mean + standard deviation of their IoU."""

    kind: str = "atss"
    topk: PositiveInt = 9

    def assign(self, batch: TrainingBatch) -> Assignment:
        return self.assign_points(batch.predictions.points, batch.targets, batch.valid)

    @torch.no_grad()
    def assign_points(self, points: Points, targets: Targets, valid: Tensor) -> Assignment:
        """Assign by anchor overlap; a location wanted by several objects goes to the largest overlap.

        ``valid`` (B, N) marks the locations that take part, in each level those in some of its rows and columns.
        Defined for one anchor at a location.
        """
        targets = targets.with_a_slot()
        candidates = self.candidates(points, targets, valid)
        gt_index = settle_conflicts(candidates.locations, candidates.accepted, -candidates.iou, points.centres.shape[0])
        return prior_assignment(points, targets, gt_index)

    @torch.no_grad()
    def candidates(self, points: Points, targets: Targets, valid: Tensor) -> AtssCandidates:
        """Steps 1 to 5 of the algorithm: per level the ``topk`` nearest centres, then the adaptive threshold."""
        locations, nearest = self._nearest(points, targets.boxes, valid)
        nearest = nearest & targets.valid[..., None]
        boxes = targets.boxes[:, :, None]
        iou = aligned_iou(points.anchors.to(boxes.dtype)[locations], boxes) * nearest
        count = nearest.sum(dim=-1)
        mean = iou.sum(dim=-1) / count.clamp(min=1)
        deviation = ((iou - mean[..., None]).square() * nearest).sum(dim=-1) / (count - 1).clamp(min=1)
        threshold = torch.where(count > 1, mean + deviation.sqrt(), torch.inf)
        inside = inner_margin(points.centres.to(boxes.dtype)[locations], boxes) > CENTRE_MARGIN
        accepted = nearest & inside & (iou >= threshold[..., None])
        return AtssCandidates(locations, nearest, iou, threshold, accepted)

    def _nearest(self, points: Points, boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest centres of objects (B, G, 4): locations (B, G, M) and whether each is a valid one.

        On a grid the k nearest cells lie in the k nearest rows and the k nearest columns: a cell of any further
        row has k cells of its own column before it. So k * k cells are looked at instead of a whole level.
        """
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        grids = points.split(points.centres.to(boxes.dtype), dim=0)
        locations, nearest, start = [], [], 0
        for grid, taking_part, (height, width) in zip(grids, points.split(valid), points.level_sizes, strict=True):
            grid, taking_part = grid.unflatten(0, (height, width)), taking_part.unflatten(1, (height, width))
            dy, rows = self._nearest_lines(centres[..., 1], grid[:, 0, 1], taking_part.any(dim=2))
            dx, columns = self._nearest_lines(centres[..., 0], grid[0, :, 0], taking_part.any(dim=1))
            distance = (dx[..., None, :] + dy[..., :, None]).flatten(2)
            cells = (rows[..., :, None] * width + columns[..., None, :]).flatten(2)
            values, chosen = top_first(distance, min(self.topk, height * width), largest=False)
            locations.append(cells.gather(2, chosen) + start)
            nearest.append(values < torch.inf)
            start += height * width
        return torch.cat(locations, dim=2), torch.cat(nearest, dim=2)

    def _nearest_lines(self, centres: Tensor, lines: Tensor, taking_part: Tensor) -> tuple[Tensor, Tensor]:
        """The rows (or columns) at ``lines`` (R,) nearest to centres (B, G): squared distances and indices (B, G, k).

        Rows that take no part (B, R) are infinitely far.
        """
        distance = (centres[..., None] - lines).square().masked_fill(~taking_part[:, None], torch.inf)
        return top_first(distance, min(self.topk, len(lines)), largest=False)
