"""Figures of score thresholds: F1 against the threshold, and whether scores are right as often as they say."""

from typing import Any

import numpy as np

from tood.evaluation.score_thresholds import THRESHOLDS
from tood.reporting.comparison import Comparison
from tood.reporting.style import GRID, QUIET, colour_of, dash_of, new_figure

_MANY = 4  # rows from which on bands would cover each other


def draw_f1(comparison: Comparison) -> Any | None:
    """F1 over all classes by threshold, mean over a row's runs, with bands over the choice of images."""
    if all(row.stats["AP"] is None for row in comparison.rows):
        return None
    figure, (axes,) = new_figure(7.2, 3.8)
    top = 0.0
    for position, row in enumerate(comparison.rows):
        f1 = row.details.f1
        colour = colour_of(position)
        axes.plot(THRESHOLDS, 100 * f1.value, color=colour, linestyle=dash_of(position), label=row.name)
        if len(comparison.rows) <= _MANY:
            axes.fill_between(THRESHOLDS, 100 * f1.low, 100 * f1.high, color=colour, alpha=0.15, linewidth=0)
        best = int(np.nanargmax(np.nan_to_num(f1.value)))
        axes.plot([THRESHOLDS[best]], [100 * f1.value[best]], marker="o", markersize=5, color=colour)
        top = max(top, 100 * float(np.nanmax(f1.high)))
    axes.set(title="F1 by score threshold, IoU 0.5", xlabel="score threshold", ylabel="F1 (%)", xlim=(0, 1))
    axes.set_ylim(0, min(100, top * 1.08) or 1)
    axes.grid(axis="y", color=GRID)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def draw_reliability(comparison: Comparison) -> Any | None:
    """Share of right detections by score, all runs of a row together."""
    if all(row.stats["AP"] is None for row in comparison.rows):
        return None
    figure, (axes,) = new_figure(6.2, 4.0)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9)
    for position, row in enumerate(comparison.rows):
        found = row.details.reliability
        some = found.count > 0
        error = found.error
        label = row.name if error is None else f"{row.name} (error {100 * error:.1f})"
        axes.plot(
            found.scores[some] / found.count[some],
            found.right[some] / found.count[some],
            color=colour_of(position),
            linestyle=dash_of(position),
            marker="o",
            markersize=3.5,
            label=label,
        )
    axes.set(
        title="Reliability of scores, IoU 0.5",
        xlabel="mean score of the detections in a bin",
        ylabel="share that is right",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.grid(color=GRID)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
