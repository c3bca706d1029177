"""Plans predict what an experiment of another size would find, from what one of known spreads showed."""

from collections.abc import Sequence

import numpy as np
import pytest

from tood.evaluation.planning import (
    Aim,
    Spread,
    assumed_spread,
    estimate_spread,
    least_images,
    least_runs,
    runs_needed,
    smallest_difference,
)
from tood.evaluation.row_differences import RowResamples, pooled_seed_variance, row_difference

OF_ROW, OF_RUN, OF_SEED = 0.10, 0.06, 0.008
"""Standard deviations: of an image's share in AP by row and by run, and of AP from seed to seed on endless images."""


def study(
    rows: int, runs: int, images: int, seed: int, gaps: Sequence[float] = (), resamples: int = 200
) -> list[RowResamples]:
    """AP as a mean over images, each with a part that all share, one of the row and one of the run."""
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(images, np.full(images, 1 / images), size=resamples) / images
    hard = 0.3 * rng.standard_normal(images)
    found = []
    for number in range(rows):
        of_row = OF_ROW * rng.standard_normal(images)
        gap = gaps[number] if gaps else 0.0
        each = 0.5 + gap + (hard + of_row)[:, None] + OF_RUN * rng.standard_normal((images, runs))
        each = each + OF_SEED * rng.standard_normal(runs)
        found.append(RowResamples(each.mean(axis=0), draws @ each, images))
    return found


def true_spread(images: int) -> Spread:
    return Spread(images, 2 * OF_ROW**2 / images, OF_RUN**2 / images, OF_SEED**2)


@pytest.mark.parametrize(("runs", "images"), [(2, 100), (3, 400), (10, 100), (5, 1000)])
def test_predicted_standard_errors_are_those_of_an_experiment(runs: int, images: int) -> None:
    seen = [estimate_spread(study(6, 6, 200, seed)) for seed in range(30)]
    predicted = np.mean([one.value.variance(runs, images) for one in seen if one is not None]) ** 0.5
    tables = [study(2, runs, images, 1000 + seed, resamples=0) for seed in range(1500)]
    actual = np.std([a.mean - b.mean for a, b in tables])
    assert predicted == pytest.approx(actual, rel=0.1)
    assert true_spread(200).variance(runs, images) ** 0.5 == pytest.approx(actual, rel=0.06)


def test_the_range_of_the_seed_spread_is_honest() -> None:
    seen = [estimate_spread(study(2, 3, 200, seed)) for seed in range(300)]
    covered = [one.low.seed <= OF_SEED**2 <= one.high.seed for one in seen if one is not None]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.04)
    assert len(covered) == 300


def test_the_planned_number_of_runs_shows_the_difference_as_often_as_planned() -> None:
    aim, difference = Aim(rows=3, comparisons=2), 0.025
    runs = runs_needed(true_spread(400), aim, difference, 400)
    assert runs is not None
    clear = []
    for seed in range(300):
        rows = study(3, runs, 400, seed, gaps=(difference, 0.0, 0.0))
        found = row_difference(rows[0], rows[1], pooled_seed_variance(rows), 2)
        assert found is not None
        clear.append(found.clear and found.value > 0)
    assert np.mean(clear) == pytest.approx(0.8, abs=0.08)


def test_no_number_of_runs_does_away_with_the_images_nor_of_images_with_the_seeds() -> None:
    aim, spread = Aim(rows=2, comparisons=1), true_spread(100)
    difference = 0.02
    floor = least_images(spread, aim, difference)
    assert runs_needed(spread, aim, difference, 0.98 * floor) is None
    assert runs_needed(spread, aim, difference, 1.3 * floor) is not None
    runs = runs_needed(spread, aim, difference, 1e9)
    assert runs is not None
    assert runs >= least_runs(spread, aim, difference)
    assert runs_needed(spread, aim, 0.0, 1e9) is None


def test_one_run_a_row_shows_nothing_and_more_of_them_less_and_less() -> None:
    aim, spread = Aim(rows=4, comparisons=3), true_spread(100)
    assert smallest_difference(spread, aim, 1, 100) is None
    seen = [smallest_difference(spread, aim, runs, 100) for runs in (2, 3, 5, 10, 20)]
    assert None not in seen
    assert seen == sorted(seen, key=lambda value: -(value or 0))


def test_single_runs_tell_the_images_part_alone() -> None:
    rows = study(8, 1, 400, seed=0)
    assert estimate_spread(rows) is None
    found = assumed_spread(rows, seed_sd=0.01)
    assert found is not None
    assert found.seed == pytest.approx(1e-4)
    expected = true_spread(400)
    assert found.shared == pytest.approx(expected.shared + 2 * expected.single, rel=0.2)
    assert assumed_spread(rows[:1], seed_sd=0.01) is None
