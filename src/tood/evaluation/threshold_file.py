"""``thresholds.json`` beside a run's model: the score threshold chosen on one part of the pictures and what it gives on
another, and the curve that other wishes are read from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import ConfigDict, Field

from tood.config.base import PlainNumbers
from tood.config.messages import validate_written
from tood.data.box_drawing import SHOWN_SCORE
from tood.evaluation.error_kinds import DetectionErrors
from tood.evaluation.score_thresholds import (
    THRESHOLDS,
    ChosenThreshold,
    ThresholdCounts,
    choose_thresholds,
    counts_of_classes,
    of_class,
    sum_of_classes,
)
from tood.io.read import read_json
from tood.io.write import write_json

NAME = "thresholds.json"
HALVES = "halves"
"""In place of the split that was chosen on: each half of the pictures was chosen on for the other."""


class StoredOperating(PlainNumbers):
    """A threshold and what it gives; shares, None where nothing is there to divide by."""

    model_config = ConfigDict(extra="ignore")
    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None


class StoredChoice(PlainNumbers):
    model_config = ConfigDict(extra="ignore")
    chosen: StoredOperating
    reported: StoredOperating | None


class StoredThresholds(PlainNumbers):
    """The file; ``right``, ``wrong`` and ``objects`` are counts over all classes where the threshold was chosen."""

    model_config = ConfigDict(extra="ignore")
    chosen_on: str
    reported_on: str
    fingerprint: str | None
    overall: StoredChoice | None
    classes: dict[str, StoredChoice | None]
    thresholds: list[float] = Field(min_length=1)
    right: list[float]
    wrong: list[float]
    objects: float

    def counts(self) -> ThresholdCounts:
        return ThresholdCounts(np.array(self.right), np.array(self.wrong), np.array(self.objects))


@dataclass(frozen=True, eq=False)
class SplitErrors:
    """What a run found on a split of ``images`` pictures."""

    split: str
    images: int
    errors: DetectionErrors


def write_thresholds(
    folder: Path, scored: SplitErrors, watched: SplitErrors | None, classes: Sequence[str], fingerprint: str | None
) -> StoredThresholds:
    """Choose on ``watched`` and report on ``scored``; without the former on each half of the latter for the other.

    The halves are the pictures at even and at odd places of the split; the threshold that is kept is then that of all
    of them. The file is replaced whole.
    """
    names = tuple(classes)
    if watched is not None:
        chosen = counts_of_classes(watched.errors, len(names))
        overall, each = choose_thresholds(chosen, counts_of_classes(scored.errors, len(names)), names)
    else:
        chosen = counts_of_classes(scored.errors, len(names))
        overall, each = _on_halves(scored, chosen, names)
    every = sum_of_classes(chosen)
    stored = StoredThresholds(
        chosen_on=HALVES if watched is None else watched.split,
        reported_on=scored.split,
        fingerprint=fingerprint,
        overall=_stored(overall),
        classes={name: _stored(each[name]) for name in names},
        thresholds=THRESHOLDS.tolist(),
        right=every.right.tolist(),
        wrong=every.wrong.tolist(),
        objects=float(every.objects),
    )
    write_json(folder / NAME, stored.model_dump(mode="json"))
    return stored


def read_thresholds(path: Path) -> StoredThresholds | None:
    """The file's content; None where there is none. UserError if it is broken."""
    if not path.is_file():
        return None
    remedy = f"remove it, then evaluate the run again with: tood evaluate --run {path.parent}"
    found: StoredThresholds = validate_written(StoredThresholds, read_json(path), str(path), remedy)
    return found


def best_threshold(folder: Path) -> float:
    """The threshold of best F1 of the run in ``folder``, ``SHOWN_SCORE`` where it is not known."""
    stored = read_thresholds(folder / NAME)
    return SHOWN_SCORE if stored is None or stored.overall is None else stored.overall.chosen.threshold


def _on_halves(
    scored: SplitErrors, whole: ThresholdCounts, names: tuple[str, ...]
) -> tuple[ChosenThreshold | None, dict[str, ChosenThreshold | None]]:
    """Chosen on ``whole``; reported is what each half's own threshold gives on the other, both counted together."""
    even = np.arange(scored.images) % 2 == 0
    halves = [counts_of_classes(scored.errors, len(names), mask) for mask in (even, ~even)]
    overall = _crossed(sum_of_classes(whole), *(sum_of_classes(half) for half in halves))
    each = {name: _crossed(of_class(whole, c), *(of_class(half, c) for half in halves)) for c, name in enumerate(names)}
    return overall, each


def _crossed(whole: ThresholdCounts, first: ThresholdCounts, second: ThresholdCounts) -> ChosenThreshold | None:
    """The threshold of the whole, with what each half's own gives on the other; None where a half has no object."""
    best = whole.best()
    if best is None:
        return None
    of_first, of_second = first.best(), second.best()
    if of_first is None or of_second is None:
        return ChosenThreshold(whole.at(best), None)
    together = first.moved(of_second) + second.moved(of_first)
    return ChosenThreshold(whole.at(best), replace(together.at(0.0), threshold=best))


def _stored(choice: ChosenThreshold | None) -> StoredChoice | None:
    return None if choice is None else StoredChoice.model_validate(asdict(choice))
