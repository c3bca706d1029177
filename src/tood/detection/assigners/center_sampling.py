"""Center sampling (FCOS; Tian et al. 2019, and its "center sampling" improvement)."""

import torch
from torch import Tensor

from tood.config.base import PositiveFloat
from tood.detection.assigners.assignment import Assignment, chunk_length, elements_at_once, prior_assignment
from tood.detection.assigners.base import Assigner
from tood.detection.boxes import box_area, encode_distances, inner_margin
from tood.detection.points import Points
from tood.detection.targets import Targets
from tood.detection.training_batch import TrainingBatch

LEVEL_RANGE = 8
"""The longest distance that a level regresses, in strides; the level below it ends at half of that."""


class CenterSamplingAssigner(Assigner):
    """Locations within ``radius`` strides of an object's centre, on the level of its size."""

    kind: str = "center_sampling"
    radius: PositiveFloat = 1.5

    def assign(self, batch: TrainingBatch) -> Assignment:
        return self.assign_points(batch.predictions.points, batch.targets, batch.valid)

    @torch.no_grad()
    def assign_points(
        self, points: Points, targets: Targets, valid: Tensor, *, dense_elements: int | None = None
    ) -> Assignment:
        """Locations within ``radius`` strides of an object's centre and inside the object, on the level of its size.

        A level takes a location's object if the farthest side is 4 to 8 strides away (nearer on the finest level,
        farther on the coarsest): 64, 128, 256 and 512 px between P3 and P7. A location wanted by several objects
        goes to the smallest. ``valid`` (B, N) marks the locations that take part.
        """
        targets = targets.with_a_slot()
        centres, strides = points.centres.to(targets.boxes.dtype), points.strides.to(targets.boxes.dtype)
        shortest = torch.where(strides == strides.min(), 0, strides * (LEVEL_RANGE / 2))
        longest = torch.where(strides == strides.max(), torch.inf, strides * LEVEL_RANGE)
        least = torch.full(valid.shape, torch.inf, dtype=centres.dtype, device=centres.device)
        owner = torch.full(valid.shape, -1, dtype=torch.int64, device=centres.device)
        step = chunk_length(valid.shape[0], valid.shape[1], dense_elements or elements_at_once(valid.device))
        for start in range(0, targets.boxes.shape[1], step):
            boxes, exists = targets.boxes[:, start : start + step, None], targets.valid[:, start : start + step]
            middle = (boxes[..., :2] + boxes[..., 2:]) / 2
            reach = (self.radius * strides)[:, None]
            low = torch.maximum(middle - reach, boxes[..., :2])
            high = torch.minimum(middle + reach, boxes[..., 2:])
            central = inner_margin(centres, torch.cat([low, high], dim=-1)) > 0
            farthest = encode_distances(centres, boxes).amax(dim=-1)
            wanted = central & (farthest >= shortest) & (farthest <= longest) & exists[..., None] & valid[:, None]
            area, index = torch.where(wanted, box_area(boxes), torch.inf).min(dim=1)
            owner = torch.where(area < least, index + start, owner)
            least = torch.minimum(least, area)
        return prior_assignment(points, targets, owner)
