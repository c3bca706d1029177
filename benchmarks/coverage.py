"""How often what a comparison prints is right, on made-up detectors whose true AP is known.

    python benchmarks/coverage.py                       # minutes on two cores
    python benchmarks/coverage.py --tables 5000 --images 50 100 --seed-sd 0.5 --methods 4

Detectors are drawn object by object: the quality of a detection has a part that belongs to the object, one to the
method and one to the run, so that the AP of two runs of a method hangs together more than that of two methods. Seeds
shift a run's quality, so that AP varies from seed to seed by the wanted standard deviation. Every drawn table goes
through the project's own resampling and intervals.

Printed: how often each interval covers what it is for; how often a family of equal methods has at least one difference
called clear; how often a table with one run a row calls anything clear.
"""

import argparse
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from tood.evaluation.match_records import MatchRecords
from tood.evaluation.row_differences import (
    RowResamples,
    pooled_seed_variance,
    row_difference,
    row_interval,
)
from tood.evaluation.significance import Interval, draw_weights, resampled_ap

RUNS = (1, 2, 3, 5)
THRESHOLDS = np.linspace(0.5, 0.95, 10)
GAP = 1.0
"""True difference between the two methods whose intervals are counted, AP points."""
OF_OBJECT, OF_METHOD, OF_RUN = 1.0, 0.35, 0.10
"""Standard deviations of the parts of a detection's quality; resampled AP then correlates as the note printed says."""
OFFSET = 0.48
FALSE_POSITIVES = 2.0  # expected for an image
_POPULATION = 20_000  # images
_SHIFTS = np.linspace(-0.8, 0.8, 17)


@dataclass(frozen=True)
class ImageSet:
    """Made-up images of one class: ``image_of`` (O,) an object's image, ``object_part`` (O,) of its quality."""

    images: int
    image_of: np.ndarray
    object_part: np.ndarray
    clutter: np.ndarray
    """(I,) expected false positives of an image."""

    @classmethod
    def draw(cls, images: int, rng: np.random.Generator) -> "ImageSet":
        counts = 1 + rng.poisson(1.5, images)
        image_of = np.repeat(np.arange(images), counts)
        shared = 0.5 * rng.standard_normal(images)[image_of]  # objects of a hard image are hard
        part = OF_OBJECT * (shared + np.sqrt(0.75) * rng.standard_normal(len(image_of)))
        return cls(images, image_of, part, rng.gamma(1.5, FALSE_POSITIVES / 1.5, images))


@dataclass(frozen=True)
class Method:
    """What a method does with each object of a set of images (O,), whatever its seed."""

    part: np.ndarray

    @classmethod
    def draw(cls, images: ImageSet, rng: np.random.Generator) -> "Method":
        return cls(OF_METHOD * rng.standard_normal(len(images.image_of)))


def detect(images: ImageSet, method: Method, shift: float, rng: np.random.Generator) -> MatchRecords:
    """Detections of one run whose quality is shifted by ``shift``."""
    quality = OFFSET + shift + images.object_part + method.part + OF_RUN * rng.standard_normal(len(images.image_of))
    iou = 0.25 + 0.72 / (1.0 + np.exp(-1.3 * quality))
    found = iou > 0.4
    false = np.repeat(np.arange(images.images), rng.poisson(images.clutter))
    scores = np.concatenate(
        [(quality + 0.6 * rng.standard_normal(len(quality)))[found], -0.9 + 0.8 * rng.standard_normal(len(false))]
    )
    hit = np.concatenate([iou[found] >= THRESHOLDS[:, None], np.zeros((len(THRESHOLDS), len(false)), bool)], axis=1)
    order = np.argsort(-scores, kind="stable")
    return MatchRecords(
        image_ids=np.arange(images.images),
        objects=np.bincount(images.image_of, minlength=images.images)[None].astype(np.int32),
        offsets=np.array([0, len(order)]),
        images=np.concatenate([images.image_of[found], false])[order].astype(np.int32),
        scores=scores[order],
        true_positive=hit[:, order],
        ignored=np.zeros((len(THRESHOLDS), len(order)), bool),
    )


@dataclass(frozen=True)
class Truth:
    """AP on endless images by shift of the quality, and how much higher AP is expected on few images, fractions."""

    ap: np.ndarray = field(repr=False)

    @classmethod
    def measure(cls) -> "Truth":
        rng = np.random.default_rng(1)
        images = ImageSet.draw(_POPULATION, rng)
        method = Method.draw(images, rng)
        once = np.ones((images.images, 1), np.int32)
        found = [resampled_ap(detect(images, method, x, np.random.default_rng(2)), once)[0] for x in _SHIFTS]
        return cls(np.asarray(found))

    def at(self, shift: np.ndarray | float) -> np.ndarray:
        return np.interp(shift, _SHIFTS, self.ap)

    def expected(self, shift: float, spread: float) -> float:
        """Mean over seeds whose shifts have the standard deviation ``spread``."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(20)
        return float(self.at(shift + spread * nodes) @ weights / weights.sum())

    def shift_for(self, points: float) -> float:
        """The shift by which AP rises from its value at 0 by so many points."""
        return float(np.interp(self.at(0.0) + points / 100, self.ap, _SHIFTS))

    def shift_sd(self, seed_sd: float) -> float:
        """The standard deviation of shifts with which AP varies from seed to seed by ``seed_sd`` points."""
        return 0.5 * (self.shift_for(seed_sd) - self.shift_for(-seed_sd)) if seed_sd else 0.0


@dataclass(frozen=True)
class Setting:
    """What a table is drawn with; ``seed_sd`` in AP points."""

    images: int
    seed_sd: float
    methods: int
    resamples: int


def draw_rows(
    setting: Setting, truth: Truth, gaps: Sequence[float], runs: int, rng: np.random.Generator
) -> tuple[list[RowResamples], np.ndarray]:
    """A table of ``len(gaps)`` methods with ``runs`` runs each, and the shifts (K,R) of their runs."""
    images = ImageSet.draw(setting.images, rng)
    weights = draw_weights(setting.images, setting.resamples, seed=int(rng.integers(2**31)))
    both = np.concatenate([np.ones((setting.images, 1), np.int32), weights], axis=1)
    spread = truth.shift_sd(setting.seed_sd)
    rows, shifts = [], []
    for gap in gaps:
        method = Method.draw(images, rng)
        of_runs = gap + spread * rng.standard_normal(runs)
        ap = [resampled_ap(detect(images, method, x, rng), both) for x in of_runs]
        rows.append(RowResamples.of(ap, setting.images))
        shifts.append(of_runs)
    return rows, np.asarray(shifts)


def first_runs(row: RowResamples, runs: int) -> RowResamples:
    return RowResamples(row.ap[:runs], row.resampled[:, :runs], row.images)


def judge_intervals(setting: Setting, truth: Truth, seeds: Iterable[int]) -> list[dict[str, float]]:
    """Two methods ``GAP`` points apart: what their intervals say, and whether that is so; a record for each R."""
    gap, spread = truth.shift_for(GAP), truth.shift_sd(setting.seed_sd)
    means = [truth.expected(x, spread) for x in (gap, 0.0)]
    found = []
    for seed in seeds:
        rng = np.random.default_rng([seed, setting.images, round(1000 * setting.seed_sd)])
        drawn, shifts = draw_rows(setting, truth, (gap, 0.0), max(RUNS), rng)
        for runs in RUNS:
            rows = [first_runs(row, runs) for row in drawn]
            pooled = pooled_seed_variance(rows)
            difference = row_difference(*rows, pooled, 1)
            own = row_interval(rows[1], pooled)
            assert difference is not None
            assert own is not None
            given = runs == 1  # the interval is for these runs, else for their methods
            target = [float(truth.at(x[0])) for x in shifts] if given else means
            found.append(
                {
                    "runs": runs,
                    "difference": covers(difference.interval, target[0] - target[1]),
                    "own_low": own.low - target[1],
                    "own_high": own.high - target[1],
                    "ap_error": rows[1].mean - target[1],
                    "clear": difference.clear,
                    "correlation": correlation(rows[0], rows[1]),
                    "within": correlation(drawn[0]),
                }
            )
    return found


def judge_family(setting: Setting, truth: Truth, runs: int, seeds: Iterable[int]) -> list[bool]:
    """Equal methods against one of them: whether any is called clear."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng([seed, setting.images, round(1000 * setting.seed_sd), runs])
        rows, _ = draw_rows(setting, truth, [0.0] * setting.methods, runs, rng)
        pooled = pooled_seed_variance(rows)
        each = [row_difference(row, rows[0], pooled, len(rows) - 1) for row in rows[1:]]
        found.append(any(one is not None and one.clear for one in each))
    return found


def covers(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


def correlation(first: RowResamples, second: RowResamples | None = None) -> float:
    """Of resampled AP between two rows' first runs, or between two runs of one."""
    other = first.resampled[:, 1] if second is None else second.resampled[:, 0]
    return float(np.corrcoef(first.resampled[:, 0], other)[0, 1])


def parts(tables: int, processes: int) -> list[range]:
    size = -(-tables // (4 * processes))
    return [range(start, min(start + size, tables)) for start in range(0, tables, size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=600, help="Tables drawn for each line.")
    parser.add_argument("--images", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--seed-sd", type=float, nargs="+", default=[0.0, 1.0, 2.0], help="AP points.")
    parser.add_argument("--methods", type=int, default=8, help="Equal methods of a family, the baseline among them.")
    parser.add_argument("--family-runs", type=int, nargs="+", default=[1, 3], help="Runs of each of them.")
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    chosen = parser.parse_args()
    truth = Truth.measure()
    print(f"true AP {100 * truth.at(0.0):.1f}; two methods {GAP:g} point apart; {chosen.tables} tables a line")
    with ProcessPoolExecutor(chosen.processes) as pool:
        for images in chosen.images:
            for seed_sd in chosen.seed_sd:
                setting = Setting(images, seed_sd, chosen.methods, chosen.resamples)
                work = partial(judge_intervals, setting, truth)
                records = [one for some in pool.map(work, parts(chosen.tables, chosen.processes)) for one in some]
                print_intervals(setting, pd.DataFrame(records))
        for seed_sd in chosen.seed_sd:
            for runs in chosen.family_runs:
                setting = Setting(chosen.images[0], seed_sd, chosen.methods, chosen.resamples)
                judge = partial(judge_family, setting, truth, runs)
                found = [one for some in pool.map(judge, parts(chosen.tables, chosen.processes)) for one in some]
                print(
                    f"family of {setting.methods} equal methods, {setting.images} images, seed SD {seed_sd:g}, "
                    f"{runs} run(s) a row: {100 * np.mean(found):.1f} % of tables call a difference clear",
                    flush=True,
                )


def print_intervals(setting: Setting, records: pd.DataFrame) -> None:
    for runs, some in records.groupby("runs"):
        bias = some["ap_error"].mean()  # AP of few images is expected to be higher than on endless ones
        own = (some["own_low"] <= bias) & (bias <= some["own_high"])
        print(
            f"{setting.images} images, seed SD {setting.seed_sd:g}, {runs} run(s) a row: "
            f"difference covered {100 * some['difference'].mean():.1f} %, "
            f"AP on such images {100 * own.mean():.1f} % (bias {100 * bias:+.2f}), "
            f"called clear {100 * some['clear'].mean():.1f} %",
            flush=True,
        )
    print(
        f"    correlation of resampled AP: methods {records['correlation'].mean():.2f}, "
        f"runs of one {records['within'].mean():.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
