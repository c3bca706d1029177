"""What is measured of every run of a comparison, on the split and in every resample of its images."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tood.data.split_table import SplitTable
from tood.evaluation.coco_metrics import match_detections
from tood.evaluation.confusion import confusion_matrix
from tood.evaluation.error_kinds import error_costs, find_errors
from tood.evaluation.score_thresholds import Reliability, ThresholdCounts, counts_of_resamples, reliability
from tood.evaluation.significance import Counts, Floats, mean_over_classes, resampled_ap, resampled_class_ap
from tood.evaluation.threshold_file import best_threshold
from tood.io.errors import UserError
from tood.reporting.run_folder import RunFolder

Measured = TypeVar("Measured")
_MANY_IMAGES = 1000  # from which on a run takes long enough for processes to be worth starting


@dataclass(frozen=True, eq=False)
class ResampledRun:
    """A run's values on the split, followed by those of S resamples of its images; fractions."""

    class_ap: NDArray[np.float64]
    """(C,1+S) NaN where there is no object of a class."""
    costs: NDArray[np.float64]
    """(6,1+S) AP50 that mending each kind of error would add."""
    counts: NDArray[np.int64]
    """(6,) errors of each kind on the split."""
    at_thresholds: ThresholdCounts
    """(K,1+S) over all classes."""
    reliability: Reliability
    confusion: NDArray[np.int64]
    """(C+1,C+1) at the run's best threshold."""

    @property
    def ap(self) -> NDArray[np.float64]:
        """(1+S,) mean over classes."""
        return mean_over_classes(self.class_ap)


def resample_runs(runs: Sequence[RunFolder], table: SplitTable, weights: Counts, processes: int) -> list[ResampledRun]:
    """Each run measured with ``weights`` (I,S) of images, after checking that its files belong together.

    Runs on a large split are worked on by up to ``processes`` processes.
    """
    found = _each(runs, table, weights, processes, _measure)
    _check_recorded(runs, [one.ap for one in found])
    return found


def resample_ap(runs: Sequence[RunFolder], table: SplitTable, weights: Counts, processes: int) -> list[Floats]:
    """The same for AP alone (1+S,), which takes half the time."""
    found = _each(runs, table, weights, processes, _measure_ap)
    _check_recorded(runs, found)
    return found


def _each(
    runs: Sequence[RunFolder],
    table: SplitTable,
    weights: Counts,
    processes: int,
    measure: Callable[[SplitTable, Counts, Path], Measured],
) -> list[Measured]:
    """What ``measure`` makes of every run's detections with all images once, and with each column of weights."""
    once = np.ones((len(weights), 1), weights.dtype)
    work = partial(measure, table, np.concatenate([once, weights], axis=1))
    paths = [run.path for run in runs]
    if min(processes, len(runs)) == 1 or len(table.image_ids) < _MANY_IMAGES:
        return [work(path) for path in paths]
    try:
        with ProcessPoolExecutor(min(processes, len(runs)), get_context("fork")) as pool:
            return list(pool.map(work, paths))
    except BrokenProcessPool as error:
        raise UserError(
            f"{paths[0].parent}: a process comparing runs was killed, probably for lack of memory; "
            "compare with fewer of them, tood compare --threads 1."
        ) from error


def _check_recorded(runs: Sequence[RunFolder], resampled: Sequence[Floats]) -> None:
    for run, values in zip(runs, resampled, strict=True):
        recorded, measured = run.metrics().AP, values[0]
        if abs(measured - (np.nan if recorded is None else recorded)) > 1e-6:
            raise UserError(
                f"{run.path / 'metrics.json'}: AP is {recorded}, but the detections.json beside it "
                f"has AP {measured:.6f}; evaluate the run again."
            )


def _measure_ap(table: SplitTable, weights: Counts, path: Path) -> Floats:
    """AP of the detections in a run's folder for each column of weights (I,1+S)."""
    detections, source = RunFolder(path).detections(), path / "detections.json"
    return resampled_ap(match_detections(table, detections, source=source), weights)


def _measure(table: SplitTable, weights: Counts, path: Path) -> ResampledRun:
    """The detections in a run's folder measured with each column of weights (I,1+S)."""
    detections, source = RunFolder(path).detections(), path / "detections.json"
    errors = find_errors(table, detections, source)
    return ResampledRun(
        class_ap=resampled_class_ap(match_detections(table, detections, source=source), weights),
        costs=error_costs(errors, table, weights),
        counts=errors.counts(),
        at_thresholds=counts_of_resamples(errors, weights),
        reliability=reliability(errors),
        confusion=confusion_matrix(errors, len(table.classes), best_threshold(path)),
    )
