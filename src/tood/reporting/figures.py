"""Figures of a comparison, one function for each: AP by epoch, precision-recall, object sizes, differences, cost."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tood.data.box_drawing import SHOWN_SCORE
from tood.data.prepared import WATCHED
from tood.reporting.comparison import Comparison, Row
from tood.reporting.comparison_figures import draw_cost, draw_deltas
from tood.reporting.error_figure import draw_errors
from tood.reporting.error_sheet import draw_error_sheet
from tood.reporting.sheet import draw_sheet
from tood.reporting.style import (
    GRID,
    colour_of,
    dash_of,
    draw_bars,
    house_style,
    label_line_ends,
    new_figure,
    save,
)
from tood.reporting.threshold_figures import draw_f1, draw_reliability
from tood.reporting.wording import percent

_MAX_PANELS = 12
_MANY = 8  # rows from which on labels and bars at each point would cover each other
_SUPTITLE: dict[str, Any] = {"fontsize": 10.5, "fontweight": "bold", "x": 0.01, "ha": "left"}
_SIZES = (("APs", "small\n< 32² px"), ("APm", "medium\n32² to 96² px"), ("APl", "large\n> 96² px"))


@dataclass(frozen=True)
class Figure:
    """A picture on disk with the words that go with it."""

    path: Path
    title: str
    caption: str


def draw_figures(comparison: Comparison, folder: Path) -> list[Figure]:
    """Write all figures that make sense for this comparison as PNG into ``folder``, which is there even if none does.

    A figure of an earlier call that makes no sense now is removed; files of other names stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = comparison.study
    where = f"{study.dataset} {study.split.name}"
    singles = any(row.delta is not None and not row.delta.estimate.decides for row in comparison.rows)
    plans: list[tuple[str, Callable[[Comparison], Any | None], str, str]] = [
        (
            "deltas",
            draw_deltas,
            "Difference to the baseline",
            "Differences in AP of single runs; bars are 95 % intervals over the choice of images alone. One run a row "
            "decides nothing between methods."
            if singles
            else "Dots are differences in AP of means over seeds, bars their 95 % intervals over images and seeds, "
            "thin bars the intervals that hold for all rows at once. A filled dot is a clear difference: its thin bar "
            "does not cross zero.",
        ),
        (
            "ap_by_epoch",
            draw_ap_by_epoch,
            "AP by epoch",
            f"AP on {study.dataset} {WATCHED} during training. With several seeds thin lines are runs and the "
            "thick line is their mean.",
        ),
        (
            "precision_recall",
            draw_precision_recall,
            "Precision and recall by class",
            "At IoU 0.5, interpolated as COCO does it; where a curve ends is the largest recall reached. "
            "n is the number of objects in the split.",
        ),
        (
            "sizes",
            draw_sizes,
            "AP by object size",
            "By area of the object in the original image; sizes that do not occur in the split are left out.",
        ),
        (
            "errors",
            draw_errors,
            "Kinds of errors",
            "AP50 that mending all errors of a kind, and nothing else, would add; thin bars are 95 % intervals. The "
            "kinds are explained under Details.",
        ),
        (
            "f1",
            draw_f1,
            "F1 by score threshold",
            "Of all classes together; dots are the largest. Bands, where shown, are 95 % percentiles over the choice "
            "of images alone.",
        ),
        (
            "reliability",
            draw_reliability,
            "Reliability of scores",
            "Above the thin line scores are too low, below it too high. The error is the mean distance to it, points.",
        ),
        (
            "cost",
            draw_cost,
            "AP against cost",
            "Up is better; left is cheaper in the first panel, right is faster in the second. "
            "Thin bars, where shown, are 95 % intervals of AP.",
        ),
    ]
    figures = []
    for name, draw, title, caption in plans:
        path = folder / f"{name}.png"
        with house_style():
            figure = draw(comparison)
            if figure is None:
                path.unlink(missing_ok=True)
                continue
            save(figure, path)
            figures.append(Figure(path, title, caption))
    path = folder / "side_by_side.png"
    if draw_sheet(study, comparison.best().name, path):
        caption = (
            f"The same images of {where}, spread evenly over the split, not picked by hand. "
            f"Detections with a score of at least {100 * SHOWN_SCORE:.0f} %; captions are class and score in percent."
        )
        figures.append(Figure(path, "Ground truth and detections side by side", caption))
    else:
        path.unlink(missing_ok=True)
    path, best = folder / "worst_errors.png", comparison.best()
    if best.stats["AP"] is not None and draw_error_sheet(study, best.row.runs[0], path):
        caption = (
            f"Of {best.row.runs[0].name} on {where}: the false positives with the highest scores (boxes with a number) "
            "and the largest missed objects, at most one of a picture; boxes without a number are objects."
        )
        figures.append(Figure(path, "The worst errors of each kind", caption))
    else:
        path.unlink(missing_ok=True)
    return figures


def draw_ap_by_epoch(comparison: Comparison) -> Any | None:
    """AP on the training's own validation split after each epoch, one colour per row."""
    curves = {row.name: [_ap_by_epoch(run.history()) for run in row.runs] for row in comparison.study.rows}
    if not any(len(curve) for runs in curves.values() for curve in runs):
        return None
    figure, (axes,) = new_figure(7.2, 4.0)
    ends: list[tuple[float, float, str, str]] = []
    top = 0.0
    for position, (name, runs) in enumerate(curves.items()):
        colour = colour_of(position)
        mean = pd.concat(runs, axis=1).mean(axis=1)
        if len(runs) > 1:
            for curve in runs:
                axes.plot(curve.index, 100 * curve, color=colour, linewidth=0.8, alpha=0.45)
        few = {"marker": "o", "markersize": 3} if len(mean) <= 30 else {}
        axes.plot(mean.index, 100 * mean, color=colour, linestyle=dash_of(position), label=name, **few)
        if len(mean):
            ends.append((float(mean.index[-1]), 100 * float(mean.iloc[-1]), name, colour))
            top = max(top, 100 * float(mean.max()))
    axes.set(
        title=f"AP by epoch on {comparison.study.dataset} {WATCHED}",
        xlabel="epoch",
        ylabel="AP (%)",
    )
    axes.set_ylim(0, max(top * 1.08, 1.0))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color=GRID)
    if len(ends) <= _MANY:
        label_line_ends(axes, ends, gap=max(top, 1.0) * 0.06)
    else:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _ap_by_epoch(history: pd.DataFrame) -> pd.Series:
    if "val_AP" not in history:
        return pd.Series(dtype=float)
    measured = history.dropna(subset=["val_AP"])
    return measured.drop_duplicates("epoch", keep="last").set_index("epoch")["val_AP"]


def draw_precision_recall(comparison: Comparison) -> Any | None:
    """Small multiples: the mean over classes, then a panel for each class."""
    rows = comparison.study.rows
    tables = {row.name: _mean_curves(row) for row in rows}
    classes = list(dict.fromkeys(name for table in tables.values() for name in table.columns))
    if not classes:
        return None
    shown = classes
    if len(classes) >= _MAX_PANELS:
        shown = sorted(classes, key=lambda name: -comparison.objects.get(name, 0))[: _MAX_PANELS - 1]
    titles = ["mean of classes", *shown] if len(classes) > 1 else shown
    columns = min(len(titles), 4)
    lines = -(-len(titles) // columns)
    figure, panels = new_figure(2.5 * columns + 0.6, 2.35 * lines + 0.9, lines, columns, sharex=True, sharey=True)
    for axes, title in zip(panels, titles, strict=False):
        for position, (name, table) in enumerate(tables.items()):
            curve = table.mean(axis=1) if title == "mean of classes" and len(classes) > 1 else table.get(title)
            if curve is None:
                continue
            reached = curve[curve > 0]
            axes.plot(
                reached.index,
                reached,
                color=colour_of(position),
                linestyle=dash_of(position),
                linewidth=1.5,
                label=name,
            )
        count = comparison.objects.get(title)
        named = title if count is None else f"{title} (n = {count:,})"
        axes.set_title(named, fontsize=9.5, pad=4, fontweight="normal")
        axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.grid(color=GRID)
    for axes in panels[len(titles) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6))
    for position, axes in enumerate(panels[: len(titles)]):
        if position + columns >= len(titles):
            axes.set_xlabel("recall")
            axes.tick_params(labelbottom=True)
        if position % columns == 0:
            axes.set_ylabel("precision")
    more = f", the {len(shown)} most frequent of {len(classes)} classes" if len(shown) < len(classes) else ""
    figure.suptitle(f"Precision and recall at IoU 0.5{more}", **_SUPTITLE)
    return figure


def _mean_curves(row: Row) -> pd.DataFrame:
    """Precision by recall (index) and class (columns), mean over the row's seeds."""
    frames = []
    for run in row.runs:
        table = run.precision_recall()
        table = table[np.isclose(table["iou"], 0.5)]
        order = list(dict.fromkeys(table["class"]))
        frames.append(table.pivot(index="recall", columns="class", values="precision")[order])
    mean = sum(frames[1:], frames[0]) / len(frames)
    return pd.DataFrame(mean)[list(frames[0].columns)]


def draw_sizes(comparison: Comparison) -> Any | None:
    """Grouped bars of AP for small, medium and large objects."""
    present = [(key, label) for key, label in _SIZES if any(row.stats[key] is not None for row in comparison.rows)]
    if not present:
        return None
    count = len(comparison.rows)
    figure, (axes,) = new_figure(min(max(5.2, 1.2 + 0.42 * count * len(present)), 12), 3.7)
    heights = [[100 * (row.stats[key] or 0.0) for key, _ in present] for row in comparison.rows]
    named = [(row.name, one) for row, one in zip(comparison.rows, heights, strict=True)]
    places = draw_bars(axes, [label for _, label in present], named)
    for row, at, high in zip(comparison.rows, places, heights, strict=True):
        if count <= _MANY:
            for x, height, (key, _) in zip(at, high, present, strict=True):
                axes.annotate(
                    percent(row.stats[key]),
                    (x, height),
                    xytext=(0, 2),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                )
    axes.set(title="AP by object size", ylabel="AP (%)")
    return figure
