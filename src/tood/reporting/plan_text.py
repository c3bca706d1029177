"""What ``tood plan`` prints: which difference so many runs and images would show, and what the wanted one needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from tood.evaluation.planning import (
    Aim,
    EstimatedSpread,
    Spread,
    least_images,
    least_runs,
    runs_needed,
    smallest_difference,
)
from tood.evaluation.row_differences import RowResamples, pooled_seed_variance, row_difference
from tood.evaluation.significance import Interval
from tood.reporting.table_files import markdown_table
from tood.reporting.wording import NONE, duration, points, points_of, points_range

RUNS = (1, 2, 3, 5, 10, 20)
MORE_IMAGES = (1, 2, 4, 10)
_NOT_REACHABLE = "not reachable"


@dataclass(frozen=True)
class Plan:
    """What is known, and what is wanted: ``difference`` is a fraction of AP, ``seconds`` the mean time of a training.

    ``low`` and ``high`` are the spreads that the seeds seen so far leave possible; both the value itself where the
    spread was assumed.
    """

    title: str
    value: Spread
    low: Spread
    high: Spread
    aim: Aim
    difference: float
    seconds: float | None

    @classmethod
    def estimated(cls, title: str, spread: EstimatedSpread, aim: Aim, difference: float, seconds: float) -> "Plan":
        return cls(title, spread.value, spread.low, spread.high, aim, difference, seconds)

    @classmethod
    def assumed(cls, title: str, spread: Spread, aim: Aim, difference: float, seconds: float | None) -> "Plan":
        return cls(title, spread, spread, spread, aim, difference, seconds)

    @property
    def spreads(self) -> tuple[Spread, Spread, Spread]:
        return self.low, self.value, self.high


@dataclass(frozen=True)
class Pair:
    """Two rows of a finished study: their difference, its parts, and how many runs of each would make it clear."""

    names: tuple[str, str]
    value: float
    interval: Interval
    image_sd: float
    seed_sd: float | None
    runs: int | None


def pairs(rows: Mapping[str, RowResamples], plan: Plan) -> list[Pair]:
    """All pairs of rows, the better one first."""
    pooled, found = pooled_seed_variance(list(rows.values())), []
    for names in combinations(rows, 2):
        first, second = sorted(names, key=lambda name: -rows[name].mean)
        estimate = row_difference(rows[first], rows[second], pooled, plan.aim.comparisons)
        if estimate is None:
            continue
        seeds = estimate.seed_variance
        found.append(
            Pair(
                (first, second),
                estimate.value,
                estimate.interval,
                float(np.sqrt(estimate.image_variance)),
                None if seeds is None else float(np.sqrt(seeds)),
                runs_needed(plan.value, plan.aim, estimate.value, plan.value.images),
            )
        )
    return found


def plan_text(plan: Plan, seen: Sequence[Pair]) -> str:
    """The plan for people."""
    value = plan.value
    rows = f"{plan.aim.rows} rows" if plan.aim.comparisons > 1 else "two rows"
    parts = [
        f"{plan.title}\n"
        f"Wanted: a difference of {points_of(plan.difference)} points of AP, clear with {100 * plan.aim.power:.0f} % "
        f"probability, between {rows} with as many runs each.",
        f"Spread of AP on {value.images:,} images, standard deviations in points:\n\n"
        f"  a difference, by the choice of images alone   {_sd(value.shared)}\n"
        f"  a single run beside that, by its images       {_sd(value.single)}\n"
        f"  a run, from seed to seed on endless images    {_sd_range(plan)}",
    ]
    if seen:
        parts.append("Rows seen so far:\n\n" + markdown_table(_PAIR_HEADER, [_pair_cells(one) for one in seen]))
    parts.append(
        "Smallest difference that would be clear, points of AP (in brackets: as far as the seeds seen so far tell):\n\n"
        + markdown_table(_grid_header(plan), [_grid_cells(plan, runs) for runs in RUNS])
    )
    parts.append(
        f"Fewest runs of each row for {points_of(plan.difference)} points:\n\n"
        + markdown_table(_NEED_HEADER, [_need_cells(plan, many) for many in MORE_IMAGES])
    )
    parts.append(_floors(plan))
    return "\n\n".join(parts)


def plan_record(plan: Plan, seen: Sequence[Pair]) -> dict[str, Any]:
    """The plan for programs; AP as fractions, None where nothing is enough."""
    images = [many * plan.value.images for many in MORE_IMAGES]
    return {
        "difference": plan.difference,
        "power": plan.aim.power,
        "rows": plan.aim.rows,
        "images": plan.value.images,
        "image_sd": float(np.sqrt(plan.value.shared)),
        "single_run_image_sd": float(np.sqrt(plan.value.single)),
        "seed_sd": float(np.sqrt(plan.value.seed)),
        "seed_sd_low": float(np.sqrt(plan.low.seed)),
        "seed_sd_high": float(np.sqrt(plan.high.seed)),
        "pairs": [
            {
                "rows": list(one.names),
                "difference": one.value,
                "interval": [one.interval.low, one.interval.high],
                "image_sd": one.image_sd,
                "seed_sd": one.seed_sd,
                "runs_needed": one.runs,
            }
            for one in seen
        ],
        "smallest_difference": [
            {
                "runs": runs,
                "images": count,
                **dict(zip(("low", "value", "high"), _smallest(plan, runs, count), strict=True)),
            }
            for runs in RUNS
            for count in images
        ],
        "runs_needed": [
            {
                "images": count,
                **dict(zip(("low", "value", "high"), needed, strict=True)),
                "training_seconds": _seconds(plan, needed[1]),
            }
            for count, needed in ((count, _needed(plan, count)) for count in images)
        ],
        "least_images": _least_images(plan),
        "least_runs": [least_runs(one, plan.aim, plan.difference) for one in plan.spreads],
    }


_PAIR_HEADER = ["rows", "Δ AP", "95 % interval", "SD, images", "SD, seeds", "runs to decide"]
_NEED_HEADER = ["images", "runs a row", "trainings", "training time"]


def _pair_cells(pair: Pair) -> list[str]:
    return [
        f"{pair.names[0]} - {pair.names[1]}",
        points(pair.value),
        points_range(pair.interval),
        points_of(pair.image_sd),
        points_of(pair.seed_sd),
        NONE if pair.runs is None else str(pair.runs),
    ]


def _grid_header(plan: Plan) -> list[str]:
    return ["runs a row", *(f"{many * plan.value.images:,} images" for many in MORE_IMAGES)]


def _grid_cells(plan: Plan, runs: int) -> list[str]:
    return [str(runs), *(_ranged(plan, _smallest(plan, runs, many * plan.value.images)) for many in MORE_IMAGES)]


def _smallest(plan: Plan, runs: int, images: int) -> list[float | None]:
    return [smallest_difference(one, plan.aim, runs, images) for one in plan.spreads]


def _ranged(plan: Plan, found: Sequence[float | None]) -> str:
    low, value, high = (points_of(one) for one in found)
    return value if plan.low == plan.high or value == NONE else f"{value} ({low} to {high})"


def _needed(plan: Plan, images: int) -> list[int | None]:
    return [runs_needed(one, plan.aim, plan.difference, images) for one in plan.spreads]


def _need_cells(plan: Plan, many: int) -> list[str]:
    images = many * plan.value.images
    needed = _needed(plan, images)
    low, value, high = (_NOT_REACHABLE if one is None else str(one) for one in needed)
    runs = needed[1]
    ranged = value if low == high else f"{value} ({low} to {high})"
    trainings = NONE if runs is None else str(runs * plan.aim.rows)
    return [f"{images:,}", ranged, trainings, duration(_seconds(plan, runs))]


def _seconds(plan: Plan, runs: int | None) -> float | None:
    return None if runs is None or plan.seconds is None else runs * plan.aim.rows * plan.seconds


def _least_images(plan: Plan) -> int:
    return int(np.ceil(least_images(plan.value, plan.aim, plan.difference)))


def _floors(plan: Plan) -> str:
    runs = [int(np.ceil(least_runs(one, plan.aim, plan.difference))) for one in plan.spreads]
    ranged = f"{runs[1]}" if runs[0] == runs[2] else f"{runs[1]} ({runs[0]} to {runs[2]})"
    noun = "run" if ranged == "1" else "runs"
    text = (
        f"Fewer than {_least_images(plan):,} images are not enough however many runs there are, and fewer than "
        f"{ranged} {noun} of each row\nnot however many images. More images means new images of the same kind in the "
        "split that is scored."
    )
    return text if plan.seconds is None else f"{text} Training time is that recorded, one run after the other."


def _sd(variance: float) -> str:
    return points_of(float(np.sqrt(variance)))


def _sd_range(plan: Plan) -> str:
    ranged = "" if plan.low == plan.high else f" (95 %: {_sd(plan.low.seed)} to {_sd(plan.high.seed)})"
    return f"{_sd(plan.value.seed)}{ranged}"
