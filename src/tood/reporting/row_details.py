"""What lies behind a row's AP: AP of each class, and what each kind of error costs, with intervals as for AP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from tood.evaluation.error_kinds import ErrorKind
from tood.evaluation.row_differences import (
    RowDifference,
    RowResamples,
    pooled_seed_variance,
    row_difference,
    row_interval,
)
from tood.evaluation.score_thresholds import Reliability
from tood.evaluation.significance import CONFIDENCE, Interval
from tood.reporting.resampling import ResampledRun


@dataclass(frozen=True, eq=False)
class Band:
    """A curve over thresholds (K,), a mean over runs, with 95 % percentiles over resamples of the images."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class MeasuredRuns:
    """The runs of a row as they were measured and resampled."""

    runs: tuple[ResampledRun, ...]
    images: int
    """Of the split."""

    def ap(self) -> RowResamples:
        return RowResamples.of([run.ap for run in self.runs], self.images)

    def class_ap(self, label: int) -> RowResamples:
        return RowResamples.of([run.class_ap[label] for run in self.runs], self.images)

    def cost(self, kind: ErrorKind) -> RowResamples:
        return RowResamples.of([run.costs[kind] for run in self.runs], self.images)

    def f1(self) -> Band:
        """Over all classes."""
        each = np.nan_to_num(np.mean([run.at_thresholds.f1 for run in self.runs], axis=0))
        low, high = np.percentile(each[:, 1:], [50 - 50 * CONFIDENCE, 50 + 50 * CONFIDENCE], axis=1)
        return Band(each[:, 0], low, high)

    def count(self, kind: ErrorKind) -> float:
        """Errors of a kind, mean over runs."""
        return float(np.mean([run.counts[kind] for run in self.runs]))


@dataclass(frozen=True)
class Detail:
    """A value of a row, mean over its runs, and its difference to the baseline's; fractions of AP."""

    value: float | None
    interval: Interval | None
    delta: RowDifference | None


@dataclass(frozen=True)
class ErrorDetail:
    """What a kind of error costs, AP50 that mending it would add, and how often it occurs, a mean over runs."""

    cost: Detail
    count: float


@dataclass(frozen=True, eq=False)
class RowDetails:
    """``classes`` by name, ``errors`` by kind; ``reliability`` and ``confusion`` (C+1,C+1) add the runs up."""

    classes: Mapping[str, Detail]
    errors: Mapping[ErrorKind, ErrorDetail]
    f1: Band
    reliability: Reliability
    confusion: np.ndarray


def detailed_rows(measured: Mapping[str, MeasuredRuns], baseline: str, classes: Sequence[str]) -> dict[str, RowDetails]:
    """The details of every row."""
    by_class = [
        _details({name: row.class_ap(label) for name, row in measured.items()}, baseline)
        for label in range(len(classes))
    ]
    by_kind = {kind: _details({name: row.cost(kind) for name, row in measured.items()}, baseline) for kind in ErrorKind}
    return {
        name: RowDetails(
            {one: by_class[label][name] for label, one in enumerate(classes)},
            {kind: ErrorDetail(by_kind[kind][name], row.count(kind)) for kind in ErrorKind},
            row.f1(),
            reduce(add, (run.reliability for run in row.runs)),
            sum((run.confusion for run in row.runs), start=np.zeros_like(row.runs[0].confusion)),
        )
        for name, row in measured.items()
    }


def _details(rows: Mapping[str, RowResamples], baseline: str) -> dict[str, Detail]:
    pooled = pooled_seed_variance(list(rows.values()))
    found = {}
    for name, row in rows.items():
        defined = not np.isnan(row.ap).any()
        delta = None
        if name != baseline and defined:
            delta = row_difference(row, rows[baseline], pooled, len(rows) - 1)
        found[name] = Detail(row.mean if defined else None, row_interval(row, pooled) if defined else None, delta)
    return found
