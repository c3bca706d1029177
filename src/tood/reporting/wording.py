"""Wording of numbers and conclusions, shared by tables, console and report."""

from tood.evaluation.significance import CONFIDENCE, Interval
from tood.io.errors import listed
from tood.reporting.comparison import Comparison, Difference

NONE = "–"
MINUS = "\u2212"
MARK = "†"
"""Behind the name of a row whose code changed since."""
CONFIDENCE_TEXT = f"{100 * CONFIDENCE:.0f} %"


def percent(value: float | None) -> str:
    """A fraction as percent with one decimal: AP 0.4125 is 41.3, as the field writes it."""
    return NONE if value is None else f"{100 * value:.1f}"


def points(value: float | None) -> str:
    """A difference of fractions in percentage points, with its sign."""
    if value is None:
        return NONE
    text = f"{100 * abs(value):.1f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else MINUS}{text}"


def percent_range(interval: Interval | None) -> str:
    return NONE if interval is None else f"{percent(interval.low)} to {percent(interval.high)}"


def points_range(interval: Interval | None) -> str:
    return NONE if interval is None else f"{points(interval.low)} to {points(interval.high)}"


def number(value: float | None, digits: int = 1) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def millions(value: float | None) -> str:
    """Parameters: 32.1 M."""
    return NONE if value is None else f"{value / 1e6:.{2 if value < 1e7 else 1}f} M"


def duration(seconds: float | None) -> str:
    """1 h 05 min, 3 min 20 s, 12 s."""
    if seconds is None:
        return NONE
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def headline(comparison: Comparison) -> str:
    """Which row has the highest AP, whether its lead is significant, and whether that can be trusted."""
    return f"{_leader(comparison)}{_reservation(comparison)}"


def _reservation(comparison: Comparison) -> str:
    """What limits the conclusion: trainings that were too short."""
    runs = [name for row in comparison.rows for name in row.unconverged]
    if not runs:
        return ""
    still = (
        "was still improving when its training ended"
        if len(runs) == 1
        else ("were still improving when their training ended")
    )
    return (
        f" But {listed(runs)} {still} (AP on val rose by more than a tenth in the last quarter of the steps), so "
        "differences say little about the methods: train longer."
    )


def _leader(comparison: Comparison) -> str:
    best = comparison.best()
    unit = f"AP {percent(best.stats['AP'])} % on {comparison.study.dataset} ({comparison.study.split.name})"
    if best.stats["AP"] is None:
        return f"No AP is defined: the split {comparison.study.split.name} has no object that counts."
    if comparison.lead is None:
        return f"{best.name} reaches {unit}; there is nothing to compare it with."
    if best.name == comparison.study.baseline:
        return f"Nothing beats the baseline {best.name}: {unit}, {_over(comparison.lead, 'the next best')}."
    if best.delta is None:
        return f"{best.name} leads with {unit}."
    text = f"{best.name} leads with {unit}: {_over(best.delta, 'the baseline')}"
    if comparison.lead.second != comparison.study.baseline:
        text += f" and {_over(comparison.lead, 'the runner-up')}"
    return text + "."


def _over(difference: Difference, role: str) -> str:
    verdict = "excludes zero" if difference.clear else "includes zero, so no clear difference"
    interval = f"{CONFIDENCE_TEXT} interval {points_range(difference.interval)}, {verdict}"
    return f"{points(difference.value)} points over {role} {difference.second} ({interval})"


def origin_note(comparison: Comparison) -> str:
    """Differences between rows besides the study's settings: changed code, versions, processors."""
    sentences = [
        f"{MARK} The code changed since {row.name} was trained: {', '.join(row.row.changed_code)}."
        for row in comparison.rows
        if row.row.changed_code
    ]
    for name in dict.fromkeys(name for row in comparison.rows for name in row.versions):
        rows: dict[str, list[str]] = {}
        for row in comparison.rows:
            rows.setdefault(row.versions.get(name, "unknown"), []).append(row.name)
        if len(rows) > 1:
            each = "; ".join(f"{version} ({', '.join(names)})" for version, names in rows.items())
            sentences.append(f"Rows were trained with different {name}: {each}.")
    return " ".join(sentences)


def method_note(comparison: Comparison) -> str:
    """How the numbers were measured: split, checkpoint, resampling and what it does not cover."""
    study = comparison.study
    checkpoints = ", ".join(dict.fromkeys(row.checkpoint for row in comparison.rows))
    seeds = max(row.seeds for row in comparison.rows)
    text = (
        f"Split {study.split.name} of {study.dataset}, {comparison.images} images; checkpoint: {checkpoints}. "
        f"Intervals: {CONFIDENCE_TEXT} percentile, paired bootstrap over images, "
        f"{comparison.resamples:,} resamples, the same for all rows. "
    )
    if seeds == 1:
        return text + "They say how much depends on the choice of images, not on the seed: there is one run per row."
    return text + (
        "Seeds counts the runs of a row, which differ in their seed only: its values are means over them (memory "
        "is the largest); ± is the standard deviation over them, here of AP only, in comparison.csv of AP50 and AP75 "
        "too. Intervals resample a row's runs as well, so they cover the choice of seeds as far as so few show it."
    )
