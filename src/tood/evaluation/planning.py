"""How many runs and images a difference in AP needs to be seen.

With R runs of each row and n images, the variance of a difference is

    (n0 / n) (M + 2 I / R) + 2 sigma2 / R

from what n0 images showed: M, the part of images that all runs of a row share; I, what a single run finds hard about
its images and another of the same row does not; sigma2, the variance over seeds on endless images. Two floors follow:
no number of runs does away with M, no number of images with sigma2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.special import chdtri, ndtri

from tood.evaluation.row_differences import RowResamples, of_images, pooled_seed_variance, satterthwaite
from tood.evaluation.significance import CONFIDENCE
from tood.evaluation.simultaneous import simultaneous_quantile

POWER = 0.8
"""Probability with which a true difference of the planned size should be called clear."""
MOST_RUNS = 1000


@dataclass(frozen=True)
class Spread:
    """Variances of AP, fractions squared, on ``images`` images: ``shared`` is M, ``single`` I, ``seed`` sigma2."""

    images: int
    shared: float
    single: float
    seed: float

    def variance(self, runs: float, images: float) -> float:
        """Of a difference between two rows of ``runs`` runs each."""
        return self.images / images * (self.shared + 2 * self.single / runs) + 2 * self.seed / runs

    def seed_part(self, runs: int, images: float) -> float:
        """What of it an experiment estimates from the spread of its runs."""
        return 2 * (self.images / images * self.single + self.seed) / runs


@dataclass(frozen=True)
class EstimatedSpread:
    """A spread with the two that bound it: sigma2 as small and as large as its 95 % chi-squared interval says."""

    value: Spread
    low: Spread
    high: Spread


@dataclass(frozen=True)
class Aim:
    """What is planned for: a table of ``rows`` rows whose ``comparisons`` are clear at once, with ``power``."""

    rows: int
    comparisons: int
    power: float = POWER

    def factor(self, spread: Spread, runs: int, images: float) -> float:
        """How many standard errors a difference has to be."""
        freedom = satterthwaite(spread.variance(runs, images), spread.seed_part(runs, images), self.rows * (runs - 1))
        return simultaneous_quantile(CONFIDENCE, self.comparisons, freedom) + float(ndtri(self.power))

    @property
    def least_factor(self) -> float:
        """The same with endless runs."""
        return simultaneous_quantile(CONFIDENCE, self.comparisons, float("inf")) + float(ndtri(self.power))


def estimate_spread(rows: Sequence[RowResamples]) -> EstimatedSpread | None:
    """From rows of a finished study, pooled over rows and pairs of rows; None unless two rows have several runs.

    With covariances over resamples, of single runs V, between runs of a row C_within and of different rows C_between:
    M = 2 (C_within - C_between), I = V - C_within, and sigma2 = s2 - I from the variance s2 between runs.
    """
    several = [row for row in rows if row.runs > 1 and not np.isnan(row.ap).any()]
    pooled = pooled_seed_variance(several)
    if len(several) < 2 or pooled is None:
        return None
    together = np.concatenate([row.resampled for row in several], axis=1)
    images = several[0].images
    covariance = of_images(np.cov(together[~np.isnan(together).any(axis=1)], rowvar=False), images)
    of_row = np.repeat(np.arange(len(several)), [row.runs for row in several])
    same = of_row[:, None] == of_row[None]
    itself = np.eye(len(of_row), dtype=bool)
    alone, within = covariance[itself].mean(), covariance[same & ~itself].mean()
    between = covariance[~same].mean()
    single = max(float(alone - within), 0.0)
    tail = 0.5 * (1 - CONFIDENCE)
    bounds = (float(chdtri(pooled.freedom, tail)), float(chdtri(pooled.freedom, 1 - tail)))
    low, high = (pooled.value * pooled.freedom / bound for bound in bounds)
    value = Spread(images, max(2 * float(within - between), 0.0), single, max(pooled.value - single, 0.0))
    return EstimatedSpread(
        value,
        replace(value, seed=max(low - single, 0.0)),
        replace(value, seed=max(high - single, 0.0)),
    )


def assumed_spread(rows: Sequence[RowResamples], seed_sd: float) -> Spread | None:
    """For rows of one run each and an assumed standard deviation over seeds; None with fewer than two rows.

    What single runs and their rows find hard cannot be told apart here, so all of it counts as shared: a bound from
    above.
    """
    known = [row for row in rows if not np.isnan(row.ap).any()]
    apart = [a.resampled[:, 0] - b.resampled[:, 0] for a, b in combinations(known, 2)]
    if not apart:
        return None
    images = known[0].images
    shared = of_images(float(np.mean([np.nanvar(one, ddof=1) for one in apart])), images)
    return Spread(images, shared, 0.0, seed_sd**2)


def smallest_difference(spread: Spread, aim: Aim, runs: int, images: float) -> float | None:
    """The true difference that would be clear with the aimed power; None for one run a row, which decides nothing."""
    if runs < 2:
        return None
    return aim.factor(spread, runs, images) * float(np.sqrt(spread.variance(runs, images)))


def runs_needed(spread: Spread, aim: Aim, difference: float, images: float) -> int | None:
    """Fewest runs of each row with which ``difference`` would be clear; None where a thousand would not do."""

    def enough(runs: int) -> bool:
        seen = smallest_difference(spread, aim, runs, images)
        return seen is not None and seen <= abs(difference)

    if difference == 0 or not enough(MOST_RUNS):
        return None
    low, high = 1, MOST_RUNS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def least_images(spread: Spread, aim: Aim, difference: float) -> float:
    """Images below which no number of runs shows ``difference``."""
    return spread.images * spread.shared * (aim.least_factor / difference) ** 2


def least_runs(spread: Spread, aim: Aim, difference: float) -> float:
    """Runs of a row below which no number of images shows ``difference``."""
    return 2 * spread.seed * (aim.least_factor / difference) ** 2
