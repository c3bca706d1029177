"""Plan of an epoch: which images each step has, planned from the annotations alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tood.data.random_streams import random_stream
from tood.data.training_targets import TrainingTargets


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """S steps of B images."""

    positions: NDArray[np.int64]
    """(S,B) positions in the data set, one group after the other."""
    occurrences: NDArray[np.int64]
    """(S,B) how often the image was repeated in this epoch before; 0 unless images are repeated."""
    scales: NDArray[np.float64]
    """(S,) factor of the sides of a step's images."""


def steps_per_epoch(visits: int, batch: int) -> int:
    """Optimiser steps of ``batch`` images (over all processes) in which so many images are seen."""
    return -(-visits // batch)


def plan_epoch(
    landscape: NDArray[np.bool_],
    *,
    batch: int,
    seed: int,
    epoch: int,
    group: int | None = None,
    repeats: NDArray[np.float64] | None = None,
    scales: tuple[float, float] = (1.0, 1.0),
) -> EpochPlan:
    """The steps of an epoch from which images are landscape (I,), their ``repeats`` (I,), and the bounds of scales.

    The images are shuffled by (seed, epoch) and collected into groups of one orientation, by default of a whole batch.
    What is left of both orientations makes the last groups; the very last are filled with the images that the epoch
    began with. Every image is seen, and all epochs have as many steps.
    """
    size = batch if group is None else group
    if repeats is None:
        order = random_stream("shuffle", seed, epoch).permutation(len(landscape))
    else:
        order = random_stream("shuffle", seed, epoch).permutation(_repeated(repeats, seed, epoch))
    groups: list[list[int]] = []
    open_groups: tuple[list[int], list[int]] = ([], [])
    for position in order.tolist():
        open_group = open_groups[int(landscape[position])]
        open_group.append(position)
        if len(open_group) == size:
            groups.append(open_group.copy())
            open_group.clear()
    seen = [p for full in groups for p in full] + open_groups[1] + open_groups[0]
    seen += np.resize(order, -len(seen) % batch).tolist()
    positions = np.array(seen, np.int64).reshape(-1, batch)
    low, high = scales
    factors = [random_stream("scale", seed, epoch, step).uniform(low, high) for step in range(len(positions))]
    occurrences = np.zeros_like(positions) if repeats is None else _occurrences(positions)
    return EpochPlan(positions, occurrences, np.array(factors, np.float64).reshape(len(positions)))


def repeat_factors(targets: TrainingTargets, threshold: float) -> NDArray[np.float64]:
    """(I,) how often each image is seen in an epoch on average (repeat factor sampling; Gupta et al. 2019).

    max(1, sqrt(threshold / f)) with f the share of images that have its rarest class.
    """
    of_box = np.repeat(np.arange(len(targets)), np.diff(targets.box_offsets))
    pairs = np.unique(np.stack([of_box, targets.labels]), axis=1)
    frequency = np.bincount(pairs[1], minlength=len(targets.category_ids)) / max(1, len(targets))
    factors = np.ones(len(targets))
    np.maximum.at(factors, pairs[0], np.sqrt(threshold / frequency[pairs[1]]))
    return factors


def visits_of(repeats: NDArray[np.float64]) -> int:
    """Images that are seen in an epoch."""
    return int(np.ceil(repeats.sum() - 1e-9))


def _repeated(repeats: NDArray[np.float64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Positions of an epoch: each image as often as its factor says, rounded down or up (systematic sampling)."""
    ends = np.cumsum(repeats)
    count = visits_of(repeats)
    marks = (np.arange(count) + random_stream("repeats", seed, epoch).random()) * (ends[-1] / count)
    found: NDArray[np.int64] = np.minimum(np.searchsorted(ends, marks, side="right"), len(repeats) - 1)
    return found


def _occurrences(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each place in the order of the epoch, how often its position came before."""
    flat = positions.ravel()
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(ordered)])
    found = np.empty_like(flat)
    found[order] = np.arange(len(ordered)) - np.repeat(starts, lengths)
    return found.reshape(positions.shape)
