"""``details.csv`` and the report's tables of what lies behind AP: classes, and kinds of errors."""

from typing import Any

import pandas as pd

from tood.evaluation.error_kinds import KINDS, ErrorKind
from tood.evaluation.threshold_file import HALVES
from tood.reporting.comparison import Comparison
from tood.reporting.row_details import Detail
from tood.reporting.wording import NONE, number, percent, percent_range, points, points_range

FEW_OBJECTS = 10
"""Fewer objects of a class than these, and its AP rests on chance."""
_MAX_CLASSES = 100
_MAX_CONFUSION = 30  # classes that a page has columns for
NAMES = {
    ErrorKind.CLASS: "class",
    ErrorKind.LOCALISATION: "localisation",
    ErrorKind.BOTH: "both",
    ErrorKind.DUPLICATE: "duplicate",
    ErrorKind.BACKGROUND: "background",
    ErrorKind.MISSED: "missed",
}
ERROR_NOTE = (
    "AP50 (points) that mending all errors of a kind, and nothing else, would add (TIDE, Bolya et al. 2020), with "
    "95 % intervals as for AP, and how many there are, a mean over runs. "
    + " ".join(f"{NAMES[kind].capitalize()}: {text}." for kind, text in KINDS.items())
)


def details_frame(comparison: Comparison) -> pd.DataFrame:
    """One line for each row and class, and for each row and kind of error; fractions of AP, blank where undefined.

    ``count`` is the number of objects of a class, or of errors of a kind (mean over runs).
    """
    records = []
    for row in comparison.rows:
        for name, detail in row.details.classes.items():
            records.append(_record(row.name, "class", name, detail, comparison.objects.get(name)))
        for kind, error in row.details.errors.items():
            records.append(_record(row.name, "error", NAMES[kind], error.cost, round(error.count, 3)))
    return pd.DataFrame(records)


def _record(row: str, group: str, name: str, detail: Detail, count: float | None) -> dict[str, Any]:
    interval, delta = detail.interval, detail.delta
    return {
        "run": row,
        "group": group,
        "name": name,
        "value": _rounded(detail.value),
        "low": _rounded(interval.low if interval else None),
        "high": _rounded(interval.high if interval else None),
        "count": count,
        "delta": _rounded(delta.value if delta else None),
        "delta_low": _rounded(delta.interval.low if delta else None),
        "delta_high": _rounded(delta.interval.high if delta else None),
        "delta_clear": str(delta.clear).lower() if delta and delta.decides else None,
    }


def class_table(comparison: Comparison) -> list[list[str]]:
    """Header and a line per class: objects, and AP of each row with its interval; empty for a single class."""
    classes = list(comparison.objects)[:_MAX_CLASSES]
    if len(classes) < 2:
        return []
    lines = [["class", "objects", *(row.name for row in comparison.rows)]]
    for name in classes:
        count = comparison.objects[name]
        few = " (few)" if 0 < count < FEW_OBJECTS else ""
        cells = [_with_interval(row.details.classes[name]) for row in comparison.rows]
        lines.append([name, f"{count:,}{few}", *cells])
    return lines


def error_table(comparison: Comparison) -> list[list[str]]:
    """Header and two lines per row: what each kind of error costs, and its difference to the baseline."""
    lines = [["run", *(NAMES[kind] for kind in ErrorKind)]]
    for row in comparison.rows:
        found = [row.details.errors[kind] for kind in ErrorKind]
        lines.append([row.name, *(_cost(one.cost, one.count) for one in found)])
        if row.name != comparison.study.baseline:
            lines.append([f"{row.name} - {comparison.study.baseline}", *(_difference(one.cost) for one in found)])
    return lines


def _with_interval(detail: Detail) -> str:
    return NONE if detail.value is None else f"{percent(detail.value)} [{percent_range(detail.interval)}]"


def _cost(detail: Detail, count: float) -> str:
    return f"{_with_interval(detail)}, n = {number(count, 0)}"


def _difference(detail: Detail) -> str:
    if detail.delta is None:
        return NONE
    clear = " clear" if detail.delta.clear else ""
    return f"{points(detail.delta.value)} [{points_range(detail.delta.interval)}]{clear}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def threshold_table(comparison: Comparison) -> list[list[str]]:
    """Header and a line per run: its best threshold, what it gives where it was chosen, and elsewhere."""
    header = ["run", "chosen on", "threshold", "precision", "recall", "F1"]
    lines = [[*header, "reported on", "precision", "recall", "F1", "calibration error of the row"]]
    for row in comparison.rows:
        error = percent(row.details.reliability.error)
        for run in row.row.runs:
            stored = run.thresholds()
            if stored is None or stored.overall is None:
                continue
            chosen, reported = stored.overall.chosen, stored.overall.reported
            halves = stored.chosen_on == HALVES
            where = stored.reported_on
            given = (None, None, None) if reported is None else (reported.precision, reported.recall, reported.f1)
            lines.append(
                [
                    run.name,
                    where if halves else stored.chosen_on,
                    f"{chosen.threshold:.2f}",
                    *(percent(one) for one in (chosen.precision, chosen.recall, chosen.f1)),
                    f"{where}, each half chosen on the other" if halves else where,
                    *(percent(one) for one in given),
                    error,
                ]
            )
    return lines if len(lines) > 1 else []


def confusion_tables(comparison: Comparison) -> list[tuple[str, list[list[str]]]]:
    """Each row's name and its confusion matrix; none for a single class or more than ``_MAX_CONFUSION``."""
    classes = list(comparison.objects)
    if not 2 <= len(classes) <= _MAX_CONFUSION:
        return []
    found = []
    for row in comparison.rows:
        table = row.details.confusion
        lines = [["true class", *classes, "missed"]]
        lines += [
            [name, *(f"{count:,}" for count in line)]
            for name, line in zip([*classes, "no object"], table.tolist(), strict=True)
        ]
        lines[-1][-1] = NONE
        found.append((row.name, lines))
    return found
