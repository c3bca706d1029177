"""Figure of what each kind of error costs."""

from typing import Any

from tood.evaluation.error_kinds import ErrorKind
from tood.reporting.comparison import Comparison
from tood.reporting.details_table import NAMES
from tood.reporting.style import GRID, INK, colour_of, hatch_of, new_figure


def draw_errors(comparison: Comparison) -> Any | None:
    """Grouped bars: AP50 that mending each kind would add, with 95 % intervals; None where no AP is defined."""
    if all(row.stats["AP"] is None for row in comparison.rows):
        return None
    count = len(comparison.rows)
    figure, (axes,) = new_figure(min(max(6.4, 1.2 + 0.3 * count * len(ErrorKind)), 12), 3.7)
    wide = 0.8 / count
    for position, row in enumerate(comparison.rows):
        found = [row.details.errors[kind].cost for kind in ErrorKind]
        at = [kind - 0.4 + wide * (position + 0.5) for kind in ErrorKind]
        axes.bar(
            at,
            [100 * (one.value or 0.0) for one in found],
            wide * 0.9,
            color=colour_of(position),
            hatch=hatch_of(position),
            edgecolor="white",
            linewidth=0,
            label=row.name,
        )
        for x, one in zip(at, found, strict=True):
            if one.interval is not None:
                low, high = max(100 * one.interval.low, 0.0), 100 * one.interval.high
                axes.plot([x, x], [low, high], color=INK, linewidth=0.9)
    axes.set_xticks(list(range(len(ErrorKind))), [NAMES[kind] for kind in ErrorKind], color=INK)
    axes.tick_params(axis="x", length=0)
    axes.set(title="What each kind of error costs", ylabel="AP50 gained if mended (points)")
    axes.grid(axis="y", color=GRID)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
