"""Wording of numbers and conclusions, shared by tables, console and report."""

from tood.data.prepared import WATCHED
from tood.evaluation.significance import CONFIDENCE, Interval
from tood.io.errors import listed
from tood.reporting.comparison import ASSUMED_SEED_SD, ComparedRow, Comparison

NONE = "–"
MINUS = "\u2212"
MARK = "†"
"""Behind the name of a row whose code changed since."""
MORE_IMAGES = "more images"
"""In place of a number of runs where none would do."""
RISING = "↑"
"""Behind the name of a row that was still improving at the end of its training."""
_MOST_SETTINGS = 6
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
    """What the table says of the methods, or why it says nothing of them."""
    best, where = comparison.best(), f"{comparison.study.dataset} ({comparison.study.split.name})"
    if best.stats["AP"] is None:
        return f"No AP is defined: the split {comparison.study.split.name} has no object that counts."
    if len(comparison.rows) == 1:
        return f"{best.name} reaches AP {percent(best.stats['AP'])} % on {where}; there is nothing to compare it with."
    if not comparison.ranks:
        return _no_ranking(comparison, where)
    leaders, reached = comparison.leaders(), f"AP {percent(best.stats['AP'])} % on {where}"
    others = [row.name for row in leaders if row.name != best.name]
    if len(leaders) == len(comparison.rows):
        text = f"No row can be told apart from {best.name}, the best of {len(comparison.rows)} with {reached}"
    elif others:
        text = f"Best of {len(comparison.rows)}: {best.name} with {reached}, not told apart from {listed(others)}"
    else:
        text = f"Best of {len(comparison.rows)}: {best.name} with {reached}, clearly above every other row"
    return f"{text}. {_to_baseline(comparison, best)}"


def _no_ranking(comparison: Comparison, where: str) -> str:
    """Which runs there are to rank, and what is needed before they can be."""
    known = [row.ap for row in comparison.rows if row.stats["AP"] is not None]
    reached = f"AP {percent(min(known))} to {percent(max(known))} % on {where}"
    rising = [row.name for row in comparison.rows if row.rising]
    if rising:
        still = "was still improving when its training" if len(rising) == 1 else "were still improving when training"
        return (
            f"No ranking of methods ({reached}): {listed(rising)} {still} ended, so differences say little about the "
            "methods. Train longer."
        )
    single = [row.name for row in comparison.rows if row.seeds == 1]
    which = "One run a row decides" if len(single) == len(comparison.rows) else f"One run of {listed(single)} decides"
    return (
        f"{which} nothing between methods: the rows reach {reached}, and with another seed each would reach another "
        "value. Train three seeds or more of each row for a conclusion (docs/statistics.md)."
    )


def _to_baseline(comparison: Comparison, best: ComparedRow) -> str:
    if best.delta is None:
        return f"It is the baseline ({comparison.study.baseline})."
    verdict = "clear" if comparison.is_clear(best) else "not clear"
    interval = f"{CONFIDENCE_TEXT} interval {points_range(best.delta.interval)}"
    return f"Difference to the baseline {best.delta.second}: {points(best.delta.value)} points ({interval}, {verdict})."


def delta_title(comparison: Comparison) -> str:
    """Title of the column of differences to the baseline: single runs are not methods."""
    decides = all(row.delta.estimate.decides for row in comparison.rows if row.delta is not None)
    return "Δ AP" if decides else "Δ AP of these runs, images only"


def unlike_note(comparison: Comparison) -> str:
    """How rows were trained otherwise than the baseline, beyond their method; empty where none was."""
    return " ".join(
        f"{row.name} was trained otherwise than {comparison.study.baseline} beyond its method "
        f"({'; '.join(row.unlike[:_MOST_SETTINGS])}{'; and more' if len(row.unlike) > _MOST_SETTINGS else ''})."
        for row in comparison.rows
        if row.unlike
    )


def row_name(row: ComparedRow) -> str:
    """A row's name with the marks that the notes explain."""
    marks = [MARK] * bool(row.row.changed_code) + [RISING] * row.rising
    return " ".join([row.name, *marks])


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
    """How the numbers were measured: split, checkpoint, what intervals are of and what they do not cover."""
    study = comparison.study
    checkpoints = ", ".join(dict.fromkeys(row.checkpoint for row in comparison.rows))
    watched = ", which was watched during training" if study.split.name == WATCHED else ""
    text = (
        f"Split {study.split.name} of {study.dataset}{watched}, {comparison.images} images; checkpoint: {checkpoints}. "
        f"Intervals: {CONFIDENCE_TEXT}, paired bootstrap over images, {comparison.resamples:,} resamples, the same for "
        "all rows; that of AP is for another set of as many such images. "
    )
    if any(row.rising for row in comparison.rows):
        text += f"{RISING} AP on {WATCHED} still rose in the last third of the steps, so the row enters no ranking. "
    if len(comparison.rows) == 1 and comparison.seed_sd is None:
        return text + "They say how much depends on the choice of images, not on the seed: there is one run."
    if comparison.seed_sd is not None:
        text += _seeds_note(comparison)
    if any(row.delta is not None and not row.delta.estimate.decides for row in comparison.rows):
        text += _single_note()
    return text + (_planning_note(comparison) if len(comparison.rows) > 1 else "")


def _single_note() -> str:
    return (
        "A difference of rows of which one has a single run is of those runs, not of their methods, and its interval "
        "covers the choice of images alone. Break-even seed SD: if AP varies from seed to seed by more than this "
        "standard deviation (points), the difference is within chance. "
    )


def _planning_note(comparison: Comparison) -> str:
    assumed = comparison.seed_sd is None
    deviation = f"that deviation is {points_of(ASSUMED_SEED_SD)} point (assumed) and " if assumed else ""
    return (
        f"Runs to decide: of each row, if {deviation}the true difference is the one seen; {MORE_IMAGES}: no number of "
        "runs would do on these."
    )


def _seeds_note(comparison: Comparison) -> str:
    text = (
        "Seeds counts the runs of a row, which differ in their seed only: its values are means over them (memory "
        "is the largest); ± is the standard deviation over them, here of AP only, in comparison.csv of AP50 and AP75 "
        f"too; pooled over rows it is {points_of(comparison.seed_sd)} points of AP. Intervals of rows with several "
        "seeds cover seeds and images (Student's t, Satterthwaite's degrees of freedom). "
    )
    if len(comparison.rows) == 1:
        return text
    comparisons = len(comparison.rows) - 1
    return text + (
        f"Clear: the interval that holds for all comparisons with one row at once ({comparisons}; Dunnett) excludes "
        "zero. Bold AP: the best row and those not told apart from it, unless that is all. "
    )


def points_of(value: float | None) -> str:
    """A size in percentage points, without a sign."""
    return NONE if value is None else f"{100 * value:.2g}"
