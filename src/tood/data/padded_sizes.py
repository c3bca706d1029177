"""Few padded sizes for a training: what a GPU prepares for one (plans, graphs) is then used again and again."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tood.data.augmentation import Visit
from tood.data.dataset import DetectionDataset
from tood.data.epoch_plan import plan_epoch
from tood.data.input_sizes import padded_size

_GROUPS = 2000  # that the sizes are chosen for: the first of the training,
_EPOCHS = 50  # those of its first epochs where these have fewer


@dataclass(frozen=True, eq=False)
class PaddedSizes:
    """Sizes that network inputs are padded to."""

    sizes: NDArray[np.int64]
    """(P,2) width and height px, the smallest area first."""

    def smallest_for(self, width: int, height: int) -> tuple[int, int]:
        """The smallest that inputs of this size fit into; their own multiples of 32 if they fit into none."""
        fitting = self.sizes[(self.sizes >= (width, height)).all(axis=1)]
        if not len(fitting):
            return padded_size(width, height)
        chosen_width, chosen_height = fitting[0].tolist()
        return chosen_width, chosen_height


def padded_sizes_for(dataset: DetectionDataset, *, batch: int, group: int | None, most: int) -> PaddedSizes:
    """At most ``most`` padded sizes for a training, as few padded pixels as merging the nearest of them finds.

    They follow from the data set, its augmentation and its seed alone. Groups of both orientations, of which an epoch
    has at most one, may fit into none. Raises ValueError for less than two sizes, one for each orientation.
    """
    if most < 2:
        raise ValueError(f"{most} padded sizes are less than one for each orientation")
    landscape = dataset.targets.widths >= dataset.targets.heights
    largest = dataset.largest_input_sizes()
    needed = [padded_size(*largest[kind].max(axis=0).tolist()) for kind in (landscape, ~landscape) if kind.any()]
    counts = [0] * len(needed)
    for size in _planned(dataset, landscape, batch, group):
        needed.append(size)
        counts.append(1)
    sizes, where = np.unique(np.array(needed, np.int64), axis=0, return_inverse=True)
    weights = _per_size(where, np.array(counts, np.float64))
    merged = _merge(sizes, weights, most)
    return PaddedSizes(merged[np.argsort(merged.prod(axis=1), kind="stable")])


def _planned(
    dataset: DetectionDataset, landscape: NDArray[np.bool_], batch: int, group: int | None
) -> list[tuple[int, int]]:
    """The multiples of 32 that the first groups of a training need."""
    scales, size = dataset.config.images.scales, group or batch
    found: list[tuple[int, int]] = []
    for epoch in range(_EPOCHS):
        plan = plan_epoch(
            landscape, batch=batch, seed=dataset.seed, epoch=epoch, group=group, repeats=dataset.repeats, scales=scales
        )
        for positions, occurrences, scale in zip(plan.positions, plan.occurrences, plan.scales.tolist(), strict=True):
            if len(found) >= _GROUPS:
                return found
            pairs = zip(positions.tolist(), occurrences.tolist(), strict=True)
            inputs = np.array([dataset.input_size(one, Visit(epoch, again, scale)) for one, again in pairs])
            found += [padded_size(*sides) for sides in inputs.reshape(-1, size, 2).max(axis=1).tolist()]
    return found


def _merge(sizes: NDArray[np.int64], weights: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Replace two sizes by one that holds both until there are ``most``, always those that this costs least pixels."""
    while len(sizes) > most:
        areas = weights * sizes.prod(axis=1)
        joined = np.maximum(sizes[:, None], sizes[None])
        cost = joined.prod(axis=2) * (weights[:, None] + weights[None]) - areas[:, None] - areas[None]
        # Sizes that nothing needs yet cost nothing; of equal costs the smaller size is the better one.
        cost = cost + 1e-6 * joined.prod(axis=2)
        np.fill_diagonal(cost, np.inf)
        one, other = np.unravel_index(int(cost.argmin()), cost.shape)
        sizes[one], weights[one] = joined[one, other], weights[one] + weights[other]
        sizes, weights = np.delete(sizes, other, axis=0), np.delete(weights, other)
        sizes, where = np.unique(sizes, axis=0, return_inverse=True)
        weights = _per_size(where, weights)
    return sizes


def _per_size(where: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.bincount(where.ravel(), weights).astype(np.float64)
