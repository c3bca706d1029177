"""``tood plan``: one table to decide from, and the same for programs."""

import json
from collections.abc import Callable

import pytest

from tood.evaluation.planning import Aim, Spread, estimate_spread
from tood.reporting.comparison import ComparisonStudy, resampled_ap
from tood.reporting.plan_text import MORE_IMAGES, RUNS, Plan, pairs, plan_record, plan_text
from tood.verbs.plan_runs import plan_assumed

ROWS = {"atss": ("atss", 0.5), "gfl": ("gfl", 0.55), "tood": ("tood", 0.8)}


def test_the_plan_of_a_finished_study(make_study: Callable[..., ComparisonStudy]) -> None:
    rows = resampled_ap(make_study(rows=ROWS, seeds=3, images=30), resamples=200)
    estimated = estimate_spread(list(rows.values()))
    assert estimated is not None
    plan = Plan.estimated("Plan", estimated, Aim(3, 2), 0.02, seconds=600.0)
    seen = pairs(rows, plan)
    assert [one.names for one in seen] == [("gfl", "atss"), ("tood", "atss"), ("tood", "gfl")]
    assert all(one.value >= 0 for one in seen)
    record = plan_record(plan, seen)
    assert json.loads(json.dumps(record)) == record
    assert len(record["smallest_difference"]) == len(RUNS) * len(MORE_IMAGES)
    for one in record["smallest_difference"]:
        if one["runs"] == 1:
            assert one["value"] is None
        else:
            assert one["low"] <= one["value"] <= one["high"]
    for one in record["runs_needed"]:
        if one["value"] is not None:
            assert one["training_seconds"] == one["value"] * 3 * 600.0
    text = plan_text(plan, seen)
    for needed in (
        "2 points of AP",
        "3 rows",
        "tood - atss",
        "runs a row",
        "new images of the same kind",
        "120 images",
    ):
        assert needed in text


def test_what_no_number_of_runs_reaches_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        plan_assumed(100, 1.0, 1.0, difference=2.0, power=0.8, rows=3, as_json=False)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in caplog.text.splitlines()]
    assert ["100", "not reachable", "–", "–"] in lines
    assert ["400", "12", "36", "–"] in lines


def test_a_plan_without_seed_spread_says_one_number() -> None:
    plan = Plan.assumed("Plan", Spread(100, 1e-4, 0.0, 1e-4), Aim(2, 1), 0.05, None)
    assert "(" not in plan_text(plan, []).split("Smallest difference")[1].split("):", 1)[1].split("Fewer")[0]
