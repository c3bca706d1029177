"""Plans of epochs: the same as ever where nothing is repeated, and what repetition and scales promise."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tood.data.epoch_plan import EpochPlan, plan_epoch, repeat_factors, steps_per_epoch, visits_of
from tood.data.split_table import SplitTable
from tood.data.training_targets import TrainingTargets

FACTORS = st.lists(st.floats(1.0, 4.0), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("seed", "epoch", "steps"),
    [
        (0, 0, [[7, 8, 4, 1], [6, 0, 9, 3], [10, 2, 5, 7]]),
        (0, 1, [[3, 9, 0, 6], [2, 7, 10, 5], [8, 4, 1, 2]]),
        (5, 2, [[1, 4, 5, 8], [6, 9, 0, 3], [7, 10, 2, 1]]),
    ],
)
def test_plans_without_repetition_are_those_of_the_versions_before(
    seed: int, epoch: int, steps: list[list[int]]
) -> None:
    plan = plan_epoch(np.arange(11) % 3 == 0, batch=4, seed=seed, epoch=epoch)
    assert plan.positions.tolist() == steps
    assert not plan.occurrences.any()
    assert plan.scales.tolist() == [1.0] * 3


def same(one: EpochPlan, other: EpochPlan) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("positions", "occurrences", "scales")
    )


@settings(max_examples=100, deadline=None)
@given(factors=FACTORS, batch=st.integers(1, 9), seed=st.integers(0, 9), data=st.data())
def test_images_are_repeated_as_often_as_their_factors_say(
    factors: list[float], batch: int, seed: int, data: st.DataObject
) -> None:
    repeats = np.array(factors)
    landscape = np.array(data.draw(st.lists(st.booleans(), min_size=len(factors), max_size=len(factors))))
    visits = visits_of(repeats)
    assert visits - 1 < repeats.sum() <= visits + 1e-6
    wanted = repeats * visits / repeats.sum()
    totals = np.zeros(len(factors), int)
    for epoch in range(3):
        plan = plan_epoch(landscape, batch=batch, seed=seed, epoch=epoch, repeats=repeats)
        assert plan.positions.shape == plan.occurrences.shape == (steps_per_epoch(visits, batch), batch)
        counts = np.bincount(plan.positions.ravel()[:visits], minlength=len(factors))  # the rest fills the last step
        assert (np.abs(counts - wanted) < 1 + 1e-6).all()
        assert counts.min() >= 1
        totals += counts
        seen: dict[int, int] = {}
        for position, occurrence in zip(
            plan.positions.ravel().tolist(), plan.occurrences.ravel().tolist(), strict=True
        ):
            assert occurrence == seen.get(position, 0)
            seen[position] = occurrence + 1
        again = plan_epoch(landscape, batch=batch, seed=seed, epoch=epoch, repeats=repeats)
        assert same(plan, again)


def test_repetition_is_even_over_epochs_and_differs_between_them() -> None:
    repeats = np.array([1.0, 1.0, 1.5, 2.5])
    landscape = np.zeros(4, bool)
    plans = [plan_epoch(landscape, batch=6, seed=0, epoch=epoch, repeats=repeats) for epoch in range(200)]
    counts = np.array([np.bincount(plan.positions.ravel(), minlength=4) for plan in plans])
    np.testing.assert_allclose(counts.mean(0), repeats, atol=0.1)
    assert len({tuple(row) for row in counts[:, 2:].tolist()}) > 1


def test_equal_factors_of_one_repeat_nothing() -> None:
    plan = plan_epoch(np.zeros(7, bool), batch=7, seed=1, epoch=2, repeats=np.ones(7))
    assert sorted(plan.positions.ravel().tolist()) == list(range(7))
    assert not plan.occurrences.any()


@settings(max_examples=50, deadline=None)
@given(
    bounds=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)).map(lambda pair: tuple(sorted(pair))),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 99),
)
def test_scales_are_within_their_bounds_and_a_function_of_seed_and_epoch(
    bounds: tuple[float, float], seed: int, epoch: int
) -> None:
    flags = np.ones(30, bool)
    plan = plan_epoch(flags, batch=3, seed=seed, epoch=epoch, scales=bounds)
    assert plan.scales.shape == (10,)
    assert (plan.scales >= bounds[0]).all()
    assert (plan.scales <= bounds[1]).all()
    assert same(plan, plan_epoch(flags, batch=3, seed=seed, epoch=epoch, scales=bounds))
    assert np.array_equal(plan.positions, plan_epoch(flags, batch=3, seed=seed, epoch=epoch).positions)
    if bounds[1] - bounds[0] > 0.01:
        assert len(set(plan.scales.tolist())) > 1
        assert not same(plan, plan_epoch(flags, batch=3, seed=seed, epoch=epoch + 1, scales=bounds))


def test_repeat_factors_by_hand(tmp_path: Path) -> None:
    """Of ten images all but the last have an 'a', two a 'b', one a 'c', and none a 'd'."""
    images = [{"id": k, "file_name": f"{k}.png", "width": 64, "height": 64} for k in range(10)]
    classes = {0: [1, 2, 2, 3], 1: [1, 2], **{k: [1, 1] for k in range(2, 9)}}
    annotations = [
        {"image_id": k, "category_id": c, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
        for k, found in classes.items()
        for c in found
    ]
    categories = [{"id": k, "name": name} for k, name in enumerate("abcd", start=1)]
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    targets = TrainingTargets.of(SplitTable.of_json(path))
    np.testing.assert_allclose(repeat_factors(targets, 0.4), [2.0, 2**0.5, *[1.0] * 8])
    np.testing.assert_allclose(repeat_factors(targets, 1.0), [10**0.5, 5**0.5, *[(1 / 0.9) ** 0.5] * 7, 1.0])
    assert repeat_factors(targets, 0.0).tolist() == [1.0] * 10
