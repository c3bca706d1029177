"""``tood plan``: how many runs and images a difference needs, from a finished study or from assumed spreads."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tood.config.study import load_study
from tood.config.study_file import Selection
from tood.evaluation.planning import Aim, EstimatedSpread, Spread, assumed_spread, estimate_spread
from tood.evaluation.row_differences import RowResamples
from tood.evaluation.significance import default_resamples
from tood.io.errors import UserError
from tood.reporting.comparison import comparison_study, resampled_ap
from tood.reporting.plan_text import Pair, Plan, pairs, plan_record, plan_text
from tood.verbs.folders import PARAMS, RESULTS
from tood.verbs.open_run import open_dataset

log = logging.getLogger(__name__)


def plan_study(
    reference: str,
    selection: Selection,
    difference: float,
    power: float,
    rows: int | None,
    seed_sd: float | None,
    threads: int,
    as_json: bool,
) -> None:
    """From the detections of a finished study; ``difference`` and ``seed_sd`` in points of AP."""
    study = load_study(reference, PARAMS, selection=selection)
    split = open_dataset(study.dataset).split(study.split)
    compared = comparison_study(study, RESULTS / study.name, split)
    images = len(compared.table.image_ids)
    found = resampled_ap(compared, resamples=default_resamples(images), processes=threads)
    count = rows or len(found)
    aim = Aim(count, count - 1, power)
    seconds = float(np.mean([run.training().seconds for row in compared.rows for run in row.runs]))
    title = f"Plan from the study {study.name}, {images:,} images of {study.dataset.name} {split.name}"
    estimated = estimate_spread(list(found.values()))
    if estimated is None and seed_sd is None:
        raise UserError(
            f"{RESULTS / study.name}: needs two rows with two runs or more each, which show how AP varies from seed to "
            "seed; or assume it, in points of AP: --seed-sd 1"
        )
    if estimated is not None and seed_sd is None:
        plan = Plan.estimated(title, estimated, aim, difference / 100, seconds)
    else:
        spread = _with_seed_sd(list(found.values()), estimated, (seed_sd or 0.0) / 100)
        if spread is None:
            raise UserError(f"{RESULTS / study.name}: has fewer than two rows with an AP, so there is nothing to plan.")
        plan = Plan.assumed(title, spread, aim, difference / 100, seconds)
    _print(plan, pairs(found, plan), as_json)


def _with_seed_sd(rows: Sequence[RowResamples], estimated: EstimatedSpread | None, seed_sd: float) -> Spread | None:
    """What the images do as the study shows it, and the seeds as assumed."""
    return assumed_spread(rows, seed_sd) if estimated is None else replace(estimated.value, seed=seed_sd**2)


def plan_assumed(
    images: int, image_sd: float, seed_sd: float, difference: float, power: float, rows: int, as_json: bool
) -> None:
    """Before the first run; standard deviations and ``difference`` in points of AP."""
    spread = Spread(images, (image_sd / 100) ** 2, 0.0, (seed_sd / 100) ** 2)
    title = f"Plan from assumed spreads, {images:,} images"
    _print(Plan.assumed(title, spread, Aim(rows, rows - 1, power), difference / 100, None), [], as_json)


def _print(plan: Plan, seen: Sequence[Pair], as_json: bool) -> None:
    log.info(json.dumps(plan_record(plan, seen), indent=1) if as_json else plan_text(plan, seen))
