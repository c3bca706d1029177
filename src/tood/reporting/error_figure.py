"""Figure of what each kind of error costs."""

from typing import Any

from tood.evaluation.error_kinds import ErrorKind
from tood.reporting.comparison import Comparison
from tood.reporting.details_table import NAMES
from tood.reporting.style import INK, draw_bars, new_figure


def draw_errors(comparison: Comparison) -> Any | None:
    """Grouped bars: AP50 that mending each kind would add, with 95 % intervals; None where no AP is defined."""
    if all(row.stats["AP"] is None for row in comparison.rows):
        return None
    count = len(comparison.rows)
    figure, (axes,) = new_figure(min(max(6.4, 1.2 + 0.3 * count * len(ErrorKind)), 12), 3.7)
    costs = [[row.details.errors[kind].cost for kind in ErrorKind] for row in comparison.rows]
    named = [
        (row.name, [100 * (one.value or 0.0) for one in each]) for row, each in zip(comparison.rows, costs, strict=True)
    ]
    for at, each in zip(draw_bars(axes, [NAMES[kind] for kind in ErrorKind], named), costs, strict=True):
        for x, one in zip(at, each, strict=True):
            if one.interval is not None:
                axes.plot(
                    [x, x],
                    [max(100 * one.interval.low, 0.0), 100 * one.interval.high],
                    color=INK,
                    linewidth=0.9,
                )
    axes.set(title="What each kind of error costs", ylabel="AP50 gained if mended (points)")
    return figure
