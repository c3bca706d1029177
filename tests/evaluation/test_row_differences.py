"""Differences between rows: what makes up their variance, what quantile, and what is never called clear."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tood.evaluation.row_differences import (
    RowResamples,
    SeedVariance,
    pooled_seed_variance,
    row_difference,
    row_interval,
)
from tood.evaluation.simultaneous import simultaneous_quantile, t_quantile


@pytest.mark.parametrize(
    ("comparisons", "freedom", "expected"),
    [  # Dunnett (1964), two-sided, 5 %
        (1, 10, 2.23),
        (2, 5, 3.03),
        (2, 10, 2.57),
        (3, 20, 2.54),
        (5, 12, 2.90),
        (9, 20, 2.95),
        (7, 60, 2.69),
        (2, 1e12, 2.21),
        (3, 1e12, 2.35),
    ],
)
def test_simultaneous_quantiles_are_those_of_the_tables(comparisons: int, freedom: float, expected: float) -> None:
    assert simultaneous_quantile(0.95, comparisons, freedom) == pytest.approx(expected, abs=0.006)


def test_simultaneous_quantile_holds_in_a_simulation() -> None:
    rng = np.random.default_rng(0)
    means = rng.standard_normal((200_000, 5))
    spread = np.sqrt(rng.chisquare(6, len(means)) / 6)
    largest = np.abs((means[:, 1:] - means[:, :1]) / np.sqrt(2)).max(axis=1) / spread
    assert np.mean(largest <= simultaneous_quantile(0.95, 4, 6)) == pytest.approx(0.95, abs=0.002)


@given(st.floats(1.0, 1e9), st.integers(1, 30))
def test_quantiles_lie_between_one_comparison_and_bonferroni(freedom: float, comparisons: int) -> None:
    found = simultaneous_quantile(0.95, comparisons, freedom)
    assert t_quantile(0.95, freedom) <= found <= t_quantile(1 - 0.05 / comparisons, freedom)


def row(*ap: float, noise: float = 0.0, shared: np.ndarray | None = None, seed: int = 0) -> RowResamples:
    """Runs whose resampled AP is their AP + what they share + noise of their own."""
    rng = np.random.default_rng(seed)
    base = np.zeros(4000) if shared is None else shared
    return RowResamples(
        np.array(ap), np.array(ap) + base[:, None] + noise * rng.standard_normal((4000, len(ap))), 10_000
    )


def test_the_image_part_has_nothing_of_the_noise_of_single_runs() -> None:
    shared = 0.02 * np.random.default_rng(5).standard_normal(4000)
    a, b = row(0.5, 0.52, 0.54, noise=0.01, shared=shared), row(0.4, 0.41, 0.42, noise=0.01, seed=1)
    found = row_difference(a, b, pooled_seed_variance([a, b]), 1)
    assert found is not None
    assert found.value == pytest.approx(0.11)
    assert found.image_variance == pytest.approx(shared.var(), rel=0.05)
    assert found.seed_variance == pytest.approx((0.02**2 + (0.02**2 + 0.01**2) / 2) / 3), "b gets the pooled variance"
    freedom = 4 * ((found.image_variance + found.seed_variance) / found.seed_variance) ** 2
    half = t_quantile(0.95, freedom) * np.sqrt(found.image_variance + found.seed_variance)
    assert found.interval.high - found.value == pytest.approx(half)


def test_images_that_two_rows_find_equally_hard_cancel() -> None:
    shared = 0.05 * np.random.default_rng(5).standard_normal(4000)
    a, b = row(0.50, 0.501, shared=shared), row(0.48, 0.479, shared=shared)
    found = row_difference(a, b, pooled_seed_variance([a, b]), 1)
    assert found is not None
    assert found.image_variance == pytest.approx(0.0, abs=1e-12)
    assert found.clear


def test_one_run_a_row_decides_nothing_whatever_the_distance() -> None:
    a, b = row(0.9, noise=0.01), row(0.1, noise=0.01, seed=1)
    several = row(0.1, 0.1001, noise=0.01, seed=2)
    assert pooled_seed_variance([a, b]) is None
    for other in (b, several):
        found = row_difference(a, other, pooled_seed_variance([a, several]), 1)
        assert found is not None
        assert not found.decides
        assert not found.clear
        assert found.simultaneous is None


def test_the_break_even_seed_sd_is_where_the_interval_would_reach_zero() -> None:
    a, b = row(0.53, noise=0.005), row(0.50, noise=0.005, seed=1)
    found = row_difference(a, b, None, 1)
    assert found is not None
    sd = found.break_even_seed_sd
    assert sd is not None
    assert 1.96 * np.sqrt(found.image_variance + 2 * sd**2) == pytest.approx(found.value, rel=1e-4)
    near = row_difference(row(0.501, noise=0.005), b, None, 1)
    assert near is not None
    assert near.break_even_seed_sd == 0


def test_simultaneous_intervals_hold_the_single_ones() -> None:
    a, b = row(0.5, 0.52), row(0.4, 0.41)
    one = row_difference(a, b, pooled_seed_variance([a, b]), 1)
    many = row_difference(a, b, pooled_seed_variance([a, b]), 7)
    assert one is not None
    assert many is not None
    assert one.simultaneous == pytest.approx(one.interval) or one.simultaneous == one.interval
    assert many.interval == one.interval
    assert many.simultaneous is not None
    assert many.simultaneous.low < many.interval.low
    assert many.simultaneous.high > many.interval.high


def test_a_row_of_several_runs_has_an_interval_over_seeds_too() -> None:
    narrow, wide = row(0.50, 0.501, 0.502, noise=0.001), row(0.4, 0.5, 0.6, noise=0.001)
    pooled = pooled_seed_variance([wide])
    assert pooled == SeedVariance(pytest.approx(0.01), 2)
    found = row_interval(wide, pooled)
    assert found is not None
    assert found.high - 0.5 == pytest.approx(t_quantile(0.95, 2) * 0.1 / np.sqrt(3), rel=0.01)
    own = row_interval(narrow, pooled_seed_variance([narrow]))
    assert own is not None
    assert own.high - own.low < 0.01


def test_rows_without_an_ap_have_no_intervals() -> None:
    none = RowResamples(np.array([np.nan, np.nan]), np.full((10, 2), np.nan), 10)
    assert pooled_seed_variance([none]) is None
    assert row_interval(none, None) is None
    assert row_difference(none, none, None, 1) is None
