"""Figures of the table itself: differences to the baseline, and AP against cost."""

from typing import Any

from tood.reporting.comparison import Comparison
from tood.reporting.style import GRID, INK, QUIET, colour_of, marker_of, new_figure
from tood.reporting.wording import percent, points

_MANY = 8  # rows from which on bars at each point would cover each other
_SUPTITLE: dict[str, Any] = {"fontsize": 10.5, "fontweight": "bold", "x": 0.01, "ha": "left"}


def draw_deltas(comparison: Comparison) -> Any | None:
    """Forest plot: differences to the baseline with their intervals."""
    rows = [(position, row.delta) for position, row in enumerate(comparison.rows) if row.delta is not None]
    if not rows:
        return None
    figure, (axes,) = new_figure(7.2, 1.5 + 0.42 * len(rows))
    for y, (position, delta) in enumerate(rows):
        low, value, high = (100 * v for v in (delta.interval.low, delta.value, delta.interval.high))
        colour = colour_of(position) if delta.estimate.decides else QUIET
        decides = delta.estimate.simultaneous is not None
        axes.plot([low, high], [y, y], color=colour, linewidth=2.4 if decides else 1.2, solid_capstyle="butt")
        if delta.estimate.simultaneous is not None:
            wide = [100 * delta.estimate.simultaneous.low, 100 * delta.estimate.simultaneous.high]
            axes.plot(wide, [y, y], color=colour, linewidth=0.9)
        fill = colour if comparison.is_clear(comparison.row(delta.first)) else "white"
        axes.plot([value], [y], marker="o", markersize=8, color=colour, markerfacecolor=fill, markeredgewidth=1.8)
        text = f"{points(delta.value)}  [{points(delta.interval.low)}, {points(delta.interval.high)}]"
        axes.annotate(
            text,
            (1.0, y),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
        )
    axes.axvline(0, color=QUIET, linewidth=1)
    names = [f"{delta.first}" for _, delta in rows]
    axes.set_yticks(range(len(rows)), names, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=GRID)
    baseline = comparison.row(comparison.study.baseline)
    decides = any(delta.estimate.decides for _, delta in rows)
    axes.set(
        title=f"Difference in AP to {baseline.name} (AP {percent(baseline.stats['AP'])} %)",
        xlabel="percentage points of AP" + ("; filled dot: a clear difference" if decides else ""),
    )
    return figure


def draw_cost(comparison: Comparison) -> Any | None:
    """AP against arithmetic and against speed."""
    panels: list[tuple[str, str]] = []
    for key, label in (("gflops", "GFLOPs per image"), ("images_per_second", "images per second, inference")):
        if any(getattr(row, key) is not None for row in comparison.rows):
            panels.append((key, label))
    if not panels or all(row.stats["AP"] is None for row in comparison.rows):
        return None
    figure, all_axes = new_figure(4.1 * len(panels) + 0.4, 3.6, 1, len(panels), sharey=True)
    for axes, (key, label) in zip(all_axes, panels, strict=True):
        for position, row in enumerate(comparison.rows):
            cost, ap = getattr(row, key), row.stats["AP"]
            if cost is None or ap is None:
                continue
            colour = colour_of(position)
            if row.interval is not None and len(comparison.rows) <= _MANY:
                axes.plot([cost, cost], [100 * row.interval.low, 100 * row.interval.high], color=colour, alpha=0.5)
            axes.plot([cost], [100 * ap], marker=marker_of(position), markersize=8, color=colour, linestyle="none")
            axes.annotate(row.name, (cost, 100 * ap), xytext=(7, 4), textcoords="offset points", color=colour)
        axes.margins(x=0.25)
        axes.set(xlabel=label)
        axes.grid(color=GRID)
    all_axes[0].set(ylabel="AP (%)")
    figure.suptitle("AP against cost", **_SUPTITLE)
    return figure
