"""What is measured of every run of a comparison, on the split and in every resample of its images."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tood.data.split_table import SplitTable
from tood.evaluation.coco_metrics import match_detections
from tood.evaluation.confusion import confusion_matrix
from tood.evaluation.error_kinds import error_costs, find_errors
from tood.evaluation.score_thresholds import Reliability, ThresholdCounts, counts_of_resamples, reliability
from tood.evaluation.significance import mean_over_classes, resampled_class_ap
from tood.evaluation.threshold_file import best_threshold
from tood.io.errors import UserError
from tood.reporting.run_folder import RunFolder

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


def resample_runs(
    runs: Sequence[RunFolder], table: SplitTable, weights: np.ndarray, processes: int
) -> list[ResampledRun]:
    """Each run measured with ``weights`` (I,S) of images, after checking that its files belong together.

    Runs on a large split are worked on by up to ``processes`` processes.
    """
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
        recorded, measured = run.metrics().AP, values.ap[0]
        if abs(measured - (np.nan if recorded is None else recorded)) > 1e-6:
            raise UserError(
                f"{run.path / 'metrics.json'}: AP is {recorded}, but the detections.json beside it "
                f"has AP {measured:.6f}; evaluate the run again."
            )
    return found


def _resample_detections(table: SplitTable, weights: np.ndarray, path: Path) -> ResampledRun:
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
