"""The assigners that need no predictions, chosen by configuration."""

from typing import assert_never

from torch import Tensor

from tood.config.method import (
    AtssAssignerConfig,
    CenterSamplingAssignerConfig,
    MaxIouAssignerConfig,
    PriorAssignerConfig,
)
from tood.detection.assigners.assignment import Assignment
from tood.detection.assigners.atss import assign_atss
from tood.detection.assigners.center_sampling import assign_center_sampling
from tood.detection.assigners.max_iou import assign_max_iou
from tood.detection.points import Points
from tood.detection.targets import Targets


def assign_by_prior(rule: PriorAssignerConfig, points: Points, targets: Targets, valid: Tensor) -> Assignment:
    """Assign by anchors and objects alone; ``valid`` (B, N) marks the locations that take part."""
    match rule:
        case AtssAssignerConfig():
            return assign_atss(points, targets, valid, topk=rule.topk)
        case MaxIouAssignerConfig():
            return assign_max_iou(points, targets, valid, positive=rule.positive, negative=rule.negative)
        case CenterSamplingAssignerConfig():
            return assign_center_sampling(points, targets, valid, radius=rule.radius)
        case _:
            assert_never(rule)
