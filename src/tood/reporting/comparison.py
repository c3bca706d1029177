"""Comparison of a study's rows: COCO metrics, costs, and significance of differences in AP."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tood.config.published_table import PublishedTable
from tood.config.study import Study
from tood.data.prepared import PreparedSplit
from tood.data.split_table import SplitTable
from tood.evaluation.ground_truth import count_objects
from tood.evaluation.planning import Aim, Spread, runs_needed
from tood.evaluation.row_differences import (
    RowDifference,
    RowResamples,
    SeedVariance,
    pooled_seed_variance,
    row_difference,
    row_interval,
)
from tood.evaluation.significance import SEED, Counts, Interval, default_resamples, draw_weights
from tood.io.errors import UserError
from tood.reporting.convergence import still_rising
from tood.reporting.resampling import resample_ap, resample_runs
from tood.reporting.row_details import MeasuredRuns, RowDetails, detailed_rows
from tood.reporting.run_folder import RunFolder
from tood.reporting.unlike import unlike_settings

ASSUMED_SEED_SD = 0.01
"""Standard deviation of AP over seeds that plans assume where no row has several runs."""
MEASURED = ("AP", "AP50", "AP75", "APs", "APm", "APl")
SPREAD = ("AP", "AP50", "AP75")  # those whose standard deviation over seeds is given


@dataclass(frozen=True)
class Row:
    """One line of the table: the runs of one setting, which differ in nothing but their seed."""

    name: str
    method: str
    backbone: str
    schedule: str
    runs: tuple[RunFolder, ...]
    changed_code: tuple[str, ...] = ()
    """Modules of the package, and files of the project, that changed since its runs were trained."""


@dataclass(frozen=True)
class ComparisonStudy:
    """What is compared, on ``split``.

    ``published`` are numbers of others for these rows, which are printed but not used in computations.
    """

    name: str
    title: str
    description: str
    dataset: str
    baseline: str
    rows: tuple[Row, ...]
    split: PreparedSplit
    published: PublishedTable | None = None

    @cached_property
    def table(self) -> SplitTable:
        """The split's annotations, read when they are first asked for; UserError where that fails."""
        return SplitTable.of_split(self.split)


@dataclass(frozen=True)
class Difference:
    """Row ``first`` minus row ``second`` in AP."""

    first: str
    second: str
    estimate: RowDifference

    @property
    def value(self) -> float:
        return self.estimate.value

    @property
    def interval(self) -> Interval:
        """95 %, over images and seeds, or over images alone where a row has one run."""
        return self.estimate.interval


@dataclass(frozen=True)
class ComparedRow:
    """A row with its numbers: means over seeds, fractions; None where there is nothing to measure.

    ``std`` has the sample standard deviation over seeds of each of ``SPREAD``, None for a single run;
    ``training_seconds`` is a mean over seeds too, ``peak_memory_gib`` the largest of them; ``epochs`` is what all of
    them were trained for, where that is known.
    """

    row: Row
    stats: Mapping[str, float | None]
    interval: Interval | None
    std: Mapping[str, float | None]
    delta: Difference | None
    details: RowDetails
    parameters: float | None
    gflops: float | None
    training_seconds: float
    peak_memory_gib: float | None
    images_per_second: float | None
    epochs: int | None
    checkpoint: str
    rising: bool
    """Whether its AP on val still rose at the end of the training."""
    unlike: tuple[str, ...]
    """How its training differs from the baseline's beyond the method: ``schedule.lr: 0.01 -> 0.02``."""
    versions: Mapping[str, str]
    """Versions and hardware that trained its runs: torch, torchvision and the processor, if known."""

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def seeds(self) -> int:
        """How many runs, which differ in their seed only, the row's numbers are means over."""
        return len(self.row.runs)

    @property
    def ap(self) -> float:
        """AP for ranking; rows without one come last."""
        value = self.stats["AP"]
        return -1.0 if value is None else value


@dataclass(frozen=True)
class Comparison:
    """A compared study.

    ``seed_variance`` is that of AP from seed to seed, pooled over rows; None where no row has several runs.
    ``with_best`` has the difference between the best row and each other one. ``objects`` is the number of objects of
    each class in the split, crowds left out.
    """

    study: ComparisonStudy
    rows: tuple[ComparedRow, ...]
    seed_variance: SeedVariance | None
    with_best: Mapping[str, Difference]
    images: int
    objects: Mapping[str, int]
    resamples: int

    @property
    def ranks(self) -> bool:
        """Whether the table may rank methods: several runs a row, and none of them still rising."""
        decided = [difference.estimate.decides for difference in self.with_best.values()]
        return bool(decided) and all(decided) and not any(row.rising for row in self.rows)

    def best(self) -> ComparedRow:
        return max(self.rows, key=lambda row: row.ap)

    def row(self, name: str) -> ComparedRow:
        return next(row for row in self.rows if row.name == name)

    def leaders(self) -> tuple[ComparedRow, ...]:
        """The best row and those that cannot be told apart from it; none where the table ranks nothing."""
        if not self.ranks:
            return ()
        best = self.best().name
        return tuple(row for row in self.rows if row.name == best or not self.with_best[row.name].estimate.clear)

    @property
    def seed_sd(self) -> float | None:
        """Standard deviation of AP over seeds, pooled over rows."""
        return None if self.seed_variance is None else float(np.sqrt(self.seed_variance.value))

    def runs_to_decide(self, row: ComparedRow) -> int | None:
        """Runs of each row that would make a difference as large as the row's clear; None where no number would."""
        if row.delta is None:
            return None
        seeds = ASSUMED_SEED_SD**2 if self.seed_variance is None else self.seed_variance.value
        estimate, count = row.delta.estimate, len(self.rows)
        spread = Spread(self.images, estimate.image_variance, 0.0, seeds)
        return runs_needed(spread, Aim(count, count - 1), estimate.value, self.images)

    def is_clear(self, row: ComparedRow) -> bool:
        """Whether the row's difference to the baseline is one between methods."""
        if row.delta is None or row.rising or self.row(self.study.baseline).rising:
            return False
        return row.delta.estimate.clear


def comparison_study(
    study: Study, folder: Path, split: PreparedSplit, changed_code: Mapping[str, Sequence[str]] | None = None
) -> ComparisonStudy:
    """The comparison that a study asks for; ``folder`` (``results/<study>``) holds its runs' folders.

    ``changed_code`` are the modules that changed since each run was trained.
    """
    rows = []
    for name in study.row_names():
        runs = [run for run in study.runs.values() if run.row == name]
        first = runs[0]
        folders = tuple(RunFolder(folder / run.run, run) for run in runs)
        changed = sorted({module for run in runs for module in (changed_code or {}).get(run.run, ())})
        rows.append(Row(name, first.method.name, first.backbone.name, first.schedule.name, folders, tuple(changed)))
    return ComparisonStudy(
        name=study.name,
        title=study.title,
        description=study.description,
        dataset=study.dataset.name,
        baseline=study.baseline,
        rows=tuple(rows),
        split=split,
        published=study.published,
    )


def compare(
    study: ComparisonStudy, *, resamples: int | None = None, seed: int = SEED, processes: int = 1
) -> Comparison:
    """Read all runs and compare them, every row with the baseline and with the best.

    All runs are resampled with the same ``resamples`` draws of images (``default_resamples`` of them unless given), on
    a large split by up to ``processes`` processes. Raises UserError if a run's files are missing, broken, made with
    other settings than the study's or on another split, or disagree with each other.
    """
    resamples = default_resamples(len(study.table.image_ids)) if resamples is None else resamples
    measured = measure_rows(study, resamples=resamples, seed=seed, processes=processes)
    resampled = {name: row.ap() for name, row in measured.items()}
    pooled = pooled_seed_variance(list(resampled.values()))

    def difference(first: str, second: str) -> Difference | None:
        found = row_difference(resampled[first], resampled[second], pooled, comparisons=len(resampled) - 1)
        return None if found is None else Difference(first, second, found)

    baseline = next(row for row in study.rows if row.name == study.baseline)
    details = detailed_rows(measured, study.baseline, study.table.classes)
    rows = tuple(
        _compared_row(
            row,
            baseline,
            row_interval(resampled[row.name], pooled),
            difference(row.name, study.baseline) if row.name != study.baseline else None,
            details[row.name],
        )
        for row in study.rows
    )
    best = max(rows, key=lambda row: row.ap).name
    with_best = {row.name: difference(best, row.name) for row in rows if row.name != best}
    known = {name: one for name, one in with_best.items() if one is not None}
    return Comparison(study, rows, pooled, known, len(study.table.image_ids), count_objects(study.table), resamples)


def measure_rows(
    study: ComparisonStudy, *, resamples: int, seed: int = SEED, processes: int = 1
) -> dict[str, MeasuredRuns]:
    """What all runs measure in the same resamples of the split's images, by row; UserError as ``compare``."""
    runs, weights = _runs_and_weights(study, resamples, seed)
    each = iter(resample_runs(runs, study.table, weights, processes))
    return {row.name: MeasuredRuns(tuple(next(each) for _ in row.runs), len(weights)) for row in study.rows}


def resampled_ap(
    study: ComparisonStudy, *, resamples: int, seed: int = SEED, processes: int = 1
) -> dict[str, RowResamples]:
    """AP alone of the same, in half the time."""
    runs, weights = _runs_and_weights(study, resamples, seed)
    each = iter(resample_ap(runs, study.table, weights, processes))
    return {row.name: RowResamples.of([next(each) for _ in row.runs], len(weights)) for row in study.rows}


def _runs_and_weights(study: ComparisonStudy, resamples: int, seed: int) -> tuple[list[RunFolder], Counts]:
    """All runs, which were made as the study has them now, and the draws of images (I,S) for all of them."""
    runs = [run for row in study.rows for run in row.runs]
    for run in runs:
        run.check_settings()
        _check_split(run, study.split.name)
    return runs, draw_weights(len(study.table.image_ids), resamples, seed)


def _check_split(run: RunFolder, split: str) -> None:
    measured = run.metrics().split
    if measured != split:
        raise UserError(
            f"{run.path / 'metrics.json'}: was measured on split '{measured}', the comparison is on '{split}'; "
            f"evaluate the run on '{split}'."
        )


def _compared_row(
    row: Row, baseline: Row, interval: Interval | None, delta: Difference | None, details: RowDetails
) -> ComparedRow:
    metrics = [run.metrics() for run in row.runs]
    training = [run.training() for run in row.runs]
    memory = [one.peak_memory_gib for one in training if one.peak_memory_gib is not None]
    return ComparedRow(
        row=row,
        stats={name: _mean(getattr(one, name) for one in metrics) for name in MEASURED},
        interval=interval,
        std={name: _standard_deviation([getattr(one, name) for one in metrics]) for name in SPREAD},
        delta=delta,
        details=details,
        parameters=_mean(one.parameters for one in training),
        gflops=_mean(one.gflops for one in training),
        training_seconds=float(np.mean([one.seconds for one in training])),
        peak_memory_gib=max(memory) if memory else None,
        images_per_second=_mean(one.images_per_second for one in metrics),
        epochs=training[0].epochs if len({one.epochs for one in training}) == 1 else None,
        checkpoint="; ".join(dict.fromkeys(one.checkpoint for one in metrics)),
        rising=still_rising([run.history() for run in row.runs]),
        unlike=() if row.name == baseline.name else unlike_settings(baseline.runs[0], row.runs[0]),
        versions={
            name: ", ".join(dict.fromkeys(one.versions[name] for one in training if name in one.versions))
            for name in dict.fromkeys(name for one in training for name in one.versions)
        },
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """None if any value is."""
    known: Sequence[float | None] = list(values)
    defined = [value for value in known if value is not None]
    return float(np.mean(defined)) if defined and len(defined) == len(known) else None


def _standard_deviation(values: Sequence[float | None]) -> float | None:
    """Sample standard deviation; None for a single value or if any is None."""
    defined = [value for value in values if value is not None]
    return float(np.std(defined, ddof=1)) if 1 < len(defined) == len(values) else None
