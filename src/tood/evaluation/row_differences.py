"""Differences in AP between rows of a table, each the mean over runs that differ in their seed only.

Two sources of chance make a difference: which images the split has, and which seeds were trained. The first shows in
resamples of the images, the same for all runs; the second in the spread of a row's runs. With one run a row the second
is unknown, so the interval holds for those two runs and says nothing about the methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from tood.evaluation.significance import CONFIDENCE, Interval, percentile_interval
from tood.evaluation.simultaneous import simultaneous_quantile, t_quantile

Floats = NDArray[np.float64]
Variance = TypeVar("Variance", float, Floats)


@dataclass(frozen=True)
class RowResamples:
    """AP of a row's R runs, fractions: ``ap`` (R,) on the split, ``resampled`` (S,R) in resamples of its ``images``."""

    ap: Floats
    resampled: Floats
    images: int

    @classmethod
    def of(cls, values: Sequence[Floats], images: int) -> "RowResamples":
        """From each run's value on the split followed by those in resamples (1+S,)."""
        together = np.stack(values, axis=1)
        return cls(together[0], together[1:], images)

    @property
    def runs(self) -> int:
        return len(self.ap)

    @property
    def mean(self) -> float:
        return float(self.ap.mean())


@dataclass(frozen=True)
class SeedVariance:
    """Variance of AP from seed to seed on the same images, and the degrees of freedom that it was estimated with."""

    value: float
    freedom: int


@dataclass(frozen=True)
class RowDifference:
    """First row minus second in AP, fractions.

    ``interval`` is the 95 % interval: over seeds and images where both rows have several runs, else over images for the
    two runs as they are (t with one degree less than there are images; percentiles cover 93 % with 100 images).
    ``simultaneous`` holds for all of the table's comparisons with one row at once, None where ``decides`` is false.
    ``image_variance`` and ``seed_variance`` are the two parts of the variance of ``value``; ``seed_variance`` is None
    where a row has one run.
    """

    value: float
    interval: Interval
    simultaneous: Interval | None
    image_variance: float
    seed_variance: float | None

    @property
    def decides(self) -> bool:
        """Whether the rows have the runs that a statement on methods needs."""
        return self.seed_variance is not None

    @property
    def clear(self) -> bool:
        """Whether the simultaneous interval excludes zero."""
        return self.simultaneous is not None and self.simultaneous.excludes_zero()

    @property
    def break_even_seed_sd(self) -> float | None:
        """Standard deviation over seeds at which the 95 % interval of two single runs would reach zero.

        0 where the images alone make it reach zero; None where the spread over seeds is known.
        """
        if self.decides:
            return None
        return float(np.sqrt(max((self.value / ndtri(0.5 + CONFIDENCE / 2)) ** 2 - self.image_variance, 0.0) / 2))


def pooled_seed_variance(rows: Sequence[RowResamples]) -> SeedVariance | None:
    """Variance between a row's runs, pooled over the rows that have several with an AP; None where none has."""
    several = [row for row in rows if row.runs > 1 and not np.isnan(row.ap).any()]
    freedom = sum(row.runs - 1 for row in several)
    if not freedom:
        return None
    return SeedVariance(sum((row.runs - 1) * _own_variance(row) for row in several) / freedom, freedom)


def row_interval(row: RowResamples, pooled: SeedVariance | None) -> Interval | None:
    """95 % interval of a row's AP, for what is expected on another set of as many such images.

    With several runs it covers the choice of seeds too. None where no resample has an object.
    """
    if row.runs == 1:
        return percentile_interval(row.resampled[:, 0])
    defined = row.resampled[~np.isnan(row.resampled).any(axis=1)]
    if pooled is None or len(defined) < 2:
        return None
    images = of_images(max(_between(np.cov(defined, rowvar=False)), 0.0), row.images)
    seeds = _row_variance(row, pooled) / row.runs
    freedom = satterthwaite(images + seeds, seeds, pooled.freedom)
    return _around(row.mean, images + seeds, t_quantile(CONFIDENCE, freedom))


def row_difference(
    first: RowResamples, second: RowResamples, pooled: SeedVariance | None, comparisons: int
) -> RowDifference | None:
    """``first`` minus ``second``, one of ``comparisons`` with a common row; None where no resample has an object.

    Variance of the difference of means = image part + seed part. The image part is C_AA + C_BB - 2 C_AB, from the
    covariances over resamples between different runs, so that it has nothing of a single run's own noise. The seed part
    is (s2_A + s2_B) / R with variances between runs, each the pooled one or the row's own if that is larger. Quantiles
    are of Student's t with the degrees of freedom of Satterthwaite (1946).
    """
    both = np.concatenate([first.resampled, second.resampled], axis=1)
    defined = both[~np.isnan(both).any(axis=1)]
    if len(defined) < 2:
        return None
    value = first.mean - second.mean
    if first.runs == 1 or second.runs == 1 or pooled is None:
        apart = defined[:, : first.runs].mean(axis=1) - defined[:, first.runs :].mean(axis=1)
        variance = of_images(float(apart.var(ddof=1)), first.images)
        interval = _around(value, variance, t_quantile(CONFIDENCE, max(first.images - 1, 1)))
        return RowDifference(value, interval, None, variance, None)
    covariance = np.cov(defined, rowvar=False)
    a, b = slice(0, first.runs), slice(first.runs, None)
    shared = _between(covariance[a, a]) + _between(covariance[b, b]) - 2.0 * float(covariance[a, b].mean())
    images = of_images(max(shared, 0.0), first.images)
    seeds = _row_variance(first, pooled) / first.runs + _row_variance(second, pooled) / second.runs
    freedom = satterthwaite(images + seeds, seeds, pooled.freedom)
    return RowDifference(
        value,
        _around(value, images + seeds, t_quantile(CONFIDENCE, freedom)),
        _around(value, images + seeds, simultaneous_quantile(CONFIDENCE, comparisons, freedom)),
        images,
        seeds,
    )


def of_images(variance: Variance, images: int) -> Variance:
    """Variances over resamples as estimates of those over sets of ``images`` images: they vary a little less."""
    return variance * images / max(images - 1, 1)


def _own_variance(row: RowResamples) -> float:
    return float(row.ap.var(ddof=1))


def _row_variance(row: RowResamples, pooled: SeedVariance) -> float:
    return max(pooled.value, _own_variance(row))


def _between(covariance: Floats) -> float:
    """Mean of the covariances (R,R) between different runs."""
    runs = len(covariance)
    return float((covariance.sum() - np.trace(covariance)) / (runs * (runs - 1)))


def satterthwaite(variance: float, estimated: float, freedom: float) -> float:
    """Degrees of freedom of a ``variance`` of which the part ``estimated`` was estimated with ``freedom``.

    The rest, that of the images, counts as known.
    """
    return float(np.inf) if estimated == 0 else freedom * (variance / estimated) ** 2


def _around(value: float, variance: float, quantile: float) -> Interval:
    half = quantile * float(np.sqrt(variance))
    return Interval(value - half, value + half)
