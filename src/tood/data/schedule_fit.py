"""A schedule on its data: steps and size of the network's input where the schedule leaves them to the data."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tood.config.images import FitConfig, ImagesConfig
from tood.config.schedule import ScheduleConfig, StepsConfig
from tood.config.study import FittedConfig
from tood.data.epoch_plan import repeat_factors, steps_per_epoch, visits_of
from tood.data.split_table import SplitTable
from tood.data.training_targets import Fate, TrainingTargets, fates, without_empty

_CELL = 32  # px, of which both sides of the input are multiples
_TENS = 10
_USUAL_IMAGES = 200
_LEAST_TILE = 64  # px that a data set may say
TINY = 8.0
"""Pixels (square root of the area) below which few objects are found: the finest level has a location every 8."""


@dataclass(frozen=True)
class ScheduleFit:
    """What a schedule comes to on a train split."""

    fitted: FittedConfig
    images: int
    per_epoch: int
    """Steps in which every image is seen once, rare classes more often."""
    typical: float
    """Side px of the median object in the input (square root of its area); 0 without objects."""
    small: float
    """Side px of the small objects."""

    @property
    def epochs(self) -> float:
        return self.fitted.steps / self.per_epoch


def fit_schedule_to(schedule: ScheduleConfig, table: SplitTable) -> ScheduleFit:
    """Fit ``schedule`` to the train split ``table``, of which at least one image must be used."""
    used = without_empty(table) if schedule.drop_empty else table
    count = len(used.image_ids)
    visits = count
    if schedule.repeat is not None:
        targets = TrainingTargets.of(table, drop_empty=schedule.drop_empty)
        visits = visits_of(repeat_factors(targets, schedule.repeat.threshold))
    per_epoch = steps_per_epoch(visits, schedule.batch)
    images = fit_images(schedule.images, used)
    small, typical = _sides(used, images, 0.1 if schedule.images.fit is None else schedule.images.fit.quantile)
    fitted = FittedConfig(steps=max(1, _steps(schedule, count, per_epoch)), images=images)
    return ScheduleFit(fitted, count, per_epoch, typical, small)


def _steps(schedule: ScheduleConfig, images: int, per_epoch: int) -> int:
    if isinstance(schedule.steps, StepsConfig):
        rule = schedule.steps
        wanted = rule.base * (images / _USUAL_IMAGES) ** 0.5
        return int(min(max(round(wanted / _TENS) * _TENS, rule.least), rule.most))
    if schedule.steps is not None:
        return schedule.steps
    assert schedule.epochs is not None
    return schedule.epochs * per_epoch


def fit_images(images: ImagesConfig, table: SplitTable) -> ImagesConfig:
    """The size for the objects of a split: their ``quantile`` gets ``object_side`` px, within the bounds.

    Both sides are multiples of 32 px in the median shape of the images, and their product is at least the wanted area
    but for rounding.
    """
    if images.fit is None:
        return images
    rule = images.fit
    relative = _relative_sides(table)
    small = float(np.quantile(relative, rule.quantile)) if len(relative) else 1.0
    side = min(max(rule.object_side / max(small, 1e-9), rule.least), rule.most)
    shape = _median_shape(table)
    short = max(_CELL, round(side * shape**0.5 / _CELL) * _CELL)
    long = max(short, round(side / shape**0.5 / _CELL) * _CELL)
    return images.model_copy(update={"short": short, "long": long, "fit": None})


def largest_side(rule: FitConfig, table: SplitTable) -> float:
    """Side px of the median object at the largest size that the rule allows; 0 without objects."""
    relative = _relative_sides(table)
    return float(np.median(relative)) * rule.most if len(relative) else 0.0


def tile_size_for(images: ImagesConfig, table: SplitTable) -> tuple[int, float]:
    """Side px of tiles in which the median object has twice ``TINY`` px in the network's input, and what it has."""
    side = images.short if images.fit is None else images.fit.most
    boxes = table.annotations.boxes[fates(table) == Fate.TARGET]
    median = float(np.median(np.sqrt(boxes[:, 2] * boxes[:, 3]))) if len(boxes) else 0.0
    size = max(_LEAST_TILE, int(median * side / (2 * TINY)) // _CELL * _CELL)
    return size, median * side / size


def _relative_sides(table: SplitTable) -> NDArray[np.float64]:
    """Square roots of the targets' areas as shares of their images'."""
    of_image, _, _ = table.locate_annotations()
    targets = fates(table) == Fate.TARGET
    widths, heights = table.annotations.boxes[targets, 2:].T
    areas = table.widths[of_image[targets]] * table.heights[of_image[targets]]
    relative: NDArray[np.float64] = np.sqrt(widths * heights / np.maximum(areas, 1))
    return relative


def _median_shape(table: SplitTable) -> float:
    """Median of shorter by longer side."""
    if not len(table.image_ids):
        return 1.0
    sides = np.stack([table.widths, table.heights])
    return float(np.median(sides.min(0) / sides.max(0)))


def _sides(table: SplitTable, images: ImagesConfig, quantile: float) -> tuple[float, float]:
    relative = _relative_sides(table)
    if not len(relative):
        return 0.0, 0.0
    side = (images.short * images.long) ** 0.5
    small, typical = np.quantile(relative, [quantile, 0.5])
    return float(small) * side, float(typical) * side
