"""The score threshold of ``tood predict``: a number, the one with the best F1, or one that reaches a wish."""

import logging
import re
from pathlib import Path

from tood.data.box_drawing import SHOWN_SCORE
from tood.evaluation.threshold_file import HALVES, NAME, StoredThresholds, read_thresholds
from tood.io.errors import UserError

log = logging.getLogger(__name__)

_WISH = re.compile(r"(precision|recall)=(\S+)")


def chosen_threshold(wanted: str | None, weights: Path) -> float:
    """What ``--threshold`` means for a model; said where it was not given as a number.

    Wishes are read from ``thresholds.json`` beside the model, which evaluation wrote. Raises UserError where there is
    none, or where no threshold reaches the wish.
    """
    path = weights.parent / NAME
    if wanted is None:
        stored = read_thresholds(path)
        if stored is None or stored.overall is None:
            log.info("no best threshold is known (%s: not there): drawing scores of %g or more", path, SHOWN_SCORE)
            return SHOWN_SCORE
        return _best(stored, path)
    number = _number(wanted)
    if number is not None:
        return number
    wish = _WISH.fullmatch(wanted)
    share = _number(wish[2]) if wish else None
    if wanted != "best" and share is None:
        raise UserError(f"--threshold {wanted}: must be a number from 0 to 1, best, precision=0.9 or recall=0.9.")
    stored = read_thresholds(path)
    if stored is None:
        raise UserError(f"--threshold {wanted}: needs {path}, which tood evaluate writes; give a number without it.")
    if wish is None or share is None:
        return _best(stored, path)
    counts = stored.counts()
    found = counts.reaching(precision=share) if wish[1] == "precision" else counts.reaching(recall=share)
    if found is None:
        raise UserError(f"--threshold {wanted}: no threshold reaches that (measured on {_where(stored)}, {path}).")
    at = counts.at(found)
    log.info(
        "threshold %g: precision %s, recall %s on %s", found, _share(at.precision), _share(at.recall), _where(stored)
    )
    return found


def _best(stored: StoredThresholds, path: Path) -> float:
    if stored.overall is None:
        raise UserError(f"{path}: knows no best threshold, since the split had no object; give a number.")
    chosen, reported = stored.overall.chosen, stored.overall.reported
    given = "" if reported is None else f"; F1 {_share(reported.f1)} on {stored.reported_on}, which had no part in it"
    if stored.chosen_on == HALVES and reported is not None:
        given = f"; F1 {_share(reported.f1)} where each half of the pictures is chosen on for the other"
    log.info("threshold %g, the one of best F1 on %s (%s)%s", chosen.threshold, _where(stored), path, given)
    return chosen.threshold


def _where(stored: StoredThresholds) -> str:
    return stored.reported_on if stored.chosen_on == HALVES else stored.chosen_on


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
