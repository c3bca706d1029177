"""Comparison of a study's rows: COCO metrics, costs, and significance of differences in AP."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tood.config.published_table import PublishedTable
from tood.config.study import Study
from tood.data.prepared import PreparedSplit
from tood.data.split_table import SplitTable
from tood.evaluation.coco_metrics import match_detections
from tood.evaluation.ground_truth import count_objects
from tood.evaluation.significance import (
    SEED,
    Interval,
    default_resamples,
    draw_runs,
    draw_weights,
    percentile_interval,
    resampled_ap,
    resampled_means,
)
from tood.io.errors import UserError
from tood.reporting.convergence import unconverged
from tood.reporting.run_folder import RunFolder

MEASURED = ("AP", "AP50", "AP75", "APs", "APm", "APl")
SPREAD = ("AP", "AP50", "AP75")  # those whose standard deviation over seeds is given
_MANY_IMAGES = 1000  # from which on a run takes long enough for processes to be worth starting


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
    """``first`` minus ``second`` in AP, a fraction, with its 95 % interval over images (paired) and seeds."""

    first: str
    second: str
    value: float
    interval: Interval

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval.excludes_zero()


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
    parameters: float | None
    gflops: float | None
    training_seconds: float
    peak_memory_gib: float | None
    images_per_second: float | None
    epochs: int | None
    checkpoint: str
    unconverged: tuple[str, ...]
    """Its runs whose AP on val still rose at the end."""
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

    ``lead`` is the difference between the best row and the next best one, ``objects`` the number of objects
    of each class in the split, crowds left out.
    """

    study: ComparisonStudy
    rows: tuple[ComparedRow, ...]
    lead: Difference | None
    images: int
    objects: Mapping[str, int]
    resamples: int

    def best(self) -> ComparedRow:
        return max(self.rows, key=lambda row: row.ap)

    def row(self, name: str) -> ComparedRow:
        return next(row for row in self.rows if row.name == name)


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
    """Read all runs and compare them, every row with the baseline and the best with the next best.

    All rows are resampled with the same ``resamples`` draws of images (``default_resamples`` of them unless
    given), and each row's runs of several seeds by draws of its own. Runs on a large split are worked on by up to
    ``processes`` processes. Raises UserError if a run's files are missing, broken, made with other settings than the
    study's or on another split, or disagree with each other.
    """
    runs = [run for row in study.rows for run in row.runs]
    for run in runs:
        run.check_settings()
        _check_split(run, study.split.name)
    image_count = len(study.table.image_ids)
    resamples = default_resamples(image_count) if resamples is None else resamples
    each = iter(_resample(runs, study.table, draw_weights(image_count, resamples, seed), processes))
    resampled = {
        row.name: resampled_means(
            np.stack([next(each) for _ in row.runs], axis=1), draw_runs(len(row.runs), resamples, seed, number)
        )
        for number, row in enumerate(study.rows)
    }
    points = {row.name: _mean(run.metrics().AP for run in row.runs) for row in study.rows}

    def difference(first: str, second: str) -> Difference | None:
        a, b = points[first], points[second]
        interval = percentile_interval(resampled[first] - resampled[second])
        if a is None or b is None or interval is None:
            return None
        return Difference(first, second, a - b, interval)

    rows = tuple(
        _compared_row(
            row,
            percentile_interval(resampled[row.name]),
            difference(row.name, study.baseline) if row.name != study.baseline else None,
        )
        for row in study.rows
    )
    ranked = sorted(rows, key=lambda row: row.ap, reverse=True)
    lead = difference(ranked[0].name, ranked[1].name) if len(ranked) > 1 else None
    return Comparison(study, rows, lead, image_count, count_objects(study.table), resamples)


def _check_split(run: RunFolder, split: str) -> None:
    measured = run.metrics().split
    if measured != split:
        raise UserError(
            f"{run.path / 'metrics.json'}: was measured on split '{measured}', the comparison is on '{split}'; "
            f"evaluate the run on '{split}'."
        )


def _resample(
    runs: Sequence[RunFolder], table: SplitTable, weights: np.ndarray, processes: int
) -> list[NDArray[np.float64]]:
    """Resampled AP (S,) of each run, after checking that its files belong together."""
    once = np.ones((len(weights), 1), weights.dtype)
    work = partial(_resample_detections, table, np.concatenate([once, weights], axis=1))
    paths = [run.path for run in runs]
    if min(processes, len(runs)) == 1 or len(table.image_ids) < _MANY_IMAGES:
        found = [work(path) for path in paths]
    else:
        try:
            with ProcessPoolExecutor(min(processes, len(runs)), get_context("fork")) as pool:
                found = list(pool.map(work, paths))
        except BrokenProcessPool as error:
            raise UserError(
                f"{paths[0].parent}: a process comparing runs was killed, probably for lack of memory; "
                "compare with fewer of them, tood compare --threads 1."
            ) from error
    for run, values in zip(runs, found, strict=True):
        recorded = run.metrics().AP
        if abs(values[0] - (np.nan if recorded is None else recorded)) > 1e-6:
            raise UserError(
                f"{run.path / 'metrics.json'}: AP is {recorded}, but the detections.json beside it "
                f"has AP {values[0]:.6f}; evaluate the run again."
            )
    return [values[1:] for values in found]


def _resample_detections(table: SplitTable, weights: np.ndarray, path: Path) -> NDArray[np.float64]:
    """AP of the detections in a run's folder for each column of weights (I,S)."""
    records = match_detections(table, RunFolder(path).detections(), source=path / "detections.json")
    return resampled_ap(records, weights)


def _compared_row(row: Row, interval: Interval | None, delta: Difference | None) -> ComparedRow:
    metrics = [run.metrics() for run in row.runs]
    training = [run.training() for run in row.runs]
    memory = [one.peak_memory_gib for one in training if one.peak_memory_gib is not None]
    return ComparedRow(
        row=row,
        stats={name: _mean(getattr(one, name) for one in metrics) for name in MEASURED},
        interval=interval,
        std={name: _standard_deviation([getattr(one, name) for one in metrics]) for name in SPREAD},
        delta=delta,
        parameters=_mean(one.parameters for one in training),
        gflops=_mean(one.gflops for one in training),
        training_seconds=float(np.mean([one.seconds for one in training])),
        peak_memory_gib=max(memory) if memory else None,
        images_per_second=_mean(one.images_per_second for one in metrics),
        epochs=training[0].epochs if len({one.epochs for one in training}) == 1 else None,
        checkpoint="; ".join(dict.fromkeys(one.checkpoint for one in metrics)),
        unconverged=unconverged(row.runs),
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
