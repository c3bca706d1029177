"""Figures of the alignment analysis: score against IoU, and the most confident and best located anchors of objects."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tood.data.box_drawing import spread_evenly
from tood.data.decode import decode_image
from tood.evaluation.alignment_files import BestAnchors, read_arrays
from tood.reporting.alignment_table import AlignedRow, AlignmentTable
from tood.reporting.figures import Figure
from tood.reporting.style import INK, QUIET, house_style, new_figure, save

_COLUMNS = 4
_IMAGES, _OBJECTS, _METHODS = 4, 3, 5
_FEW = 20  # candidates below which a bin's mean says little
_SURE, _LOCATED, _TRUTH = "#D55E00", "#009E73", "#F0E442"
_NAMES = ("alignment_density.png", "alignment_anchors.png")


def draw_alignment_figures(table: AlignmentTable | None, folder: Path) -> list[Figure]:
    """Write the figures as PNG into ``folder``; a figure that does not apply is removed, without a table all are."""
    figures = []
    drawn: list[tuple[Any | None, str, str]] = [(None, "", "")] * len(_NAMES)
    with house_style():
        if table is not None:
            drawn = [_density(table), _best_anchors(table)]
        for name, (figure, title, caption) in zip(_NAMES, drawn, strict=True):
            if figure is None:
                (folder / name).unlink(missing_ok=True)
            else:
                save(figure, folder / name)
                figures.append(Figure(folder / name, title, caption))
    return figures


def _density(table: AlignmentTable) -> tuple[Any | None, str, str]:
    title = "Score against IoU"
    caption = (
        "The most confident candidates of every object, before NMS, by final score and IoU; the same colours in all "
        "panels. The line is the mean IoU of those of one score, where there are at least "
        f"{_FEW}: it rises where scores say how well a box is placed."
    )
    shares = {row.name: _density_of(row) for row in table.rows}
    if not any(counts.any() for counts in shares.values()):
        return None, title, caption
    return draw_density(shares), title, caption


def _density_of(row: AlignedRow) -> NDArray[np.int64]:
    """The histogram (S,U) of a row's candidates, its seeds together."""
    counts: NDArray[np.int64] = np.sum([read_arrays(run.path)[0] for run in row.row.row.runs], axis=0)
    return counts


def draw_density(counts: dict[str, NDArray[np.int64]]) -> Any:
    """Small multiples of histograms (S,U) over score and IoU in equal bins of [0, 1], one panel a row."""
    from matplotlib.colors import LogNorm

    totals = {name: max(1, int(table.sum())) for name, table in counts.items()}
    shares = {name: 100 * table / totals[name] for name, table in counts.items()}
    columns = min(len(shares), _COLUMNS)
    lines = -(-len(shares) // columns)
    figure, panels = new_figure(2.6 * columns + 1.2, 2.6 * lines + 0.4, lines, columns, sharex=True, sharey=True)
    smallest = min(1 / total for total in totals.values()) * 100
    colours = LogNorm(smallest, max(max(float(share.max()) for share in shares.values()), 10 * smallest))
    right = _largest_score(list(counts.values()))
    for axes, (name, share) in zip(panels, shares.items(), strict=False):
        scores, ious = (np.linspace(0, 1, size + 1) for size in share.shape)
        image = axes.pcolormesh(
            scores, ious, np.ma.masked_equal(share.T, 0), norm=colours, cmap="viridis", rasterized=True
        )
        means, defined = _mean_iou(counts[name])
        centres = (scores[:-1] + scores[1:]) / 2
        axes.plot(centres[defined], means[defined], color="white", linewidth=3.2)
        axes.plot(centres[defined], means[defined], color=_SURE, linewidth=1.8)
        axes.set_title(name, fontsize=9.5, pad=4)
        axes.set(xlim=(0, right), ylim=(0, 1))
    for position, axes in enumerate(panels):
        axes.set_visible(position < len(shares))
        if position + columns >= len(shares):
            axes.set_xlabel("score")
            axes.tick_params(labelbottom=True)
        if position % columns == 0:
            axes.set_ylabel("IoU")
    bar = figure.colorbar(image, ax=panels, shrink=0.8, pad=0.02, format="%g")
    bar.set_label("% of the candidates in a cell", color=INK)
    bar.outline.set_visible(False)
    return figure


def _largest_score(counts: Sequence[NDArray[np.int64]]) -> float:
    """Where the axis ends: the highest score of any row, rounded up to a tenth."""
    used = np.flatnonzero(sum(table.sum(axis=1) for table in counts))
    bins = len(counts[0])
    return float(np.ceil(10 * (used[-1] + 1) / bins) / 10)


def _mean_iou(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean IoU (S,) of the candidates in each score bin, from bin centres, and which bins have enough candidates."""
    centres = (np.arange(counts.shape[1]) + 0.5) / counts.shape[1]
    totals = counts.sum(axis=1)
    return (counts @ centres) / np.maximum(totals, 1), totals >= _FEW


def _best_anchors(table: AlignmentTable) -> tuple[Any | None, str, str]:
    title = "The surest and the best located anchor"
    caption = (
        f"Sample images, spread evenly over the split, not picked by hand, with up to {_OBJECTS} of their largest "
        "objects (yellow). For each object: the location (square) and predicted box (dashed) of the anchor with the "
        "highest score for its class, and those (dot, solid) of the anchor with the highest IoU, before NMS. Below: "
        "IoU of the two, mean over the objects shown; the closer, the better aligned."
    )
    rows = table.rows[:_METHODS]
    best = {row.name: read_arrays(row.run().path)[1] for row in rows}
    shared = set.intersection(*(set(one.image_ids.tolist()) for one in best.values()))
    if not shared:
        return None, title, caption
    chosen = spread_evenly(sorted(shared), _IMAGES)
    names = [table.study.table.file_names[place] for place in np.searchsorted(table.study.table.image_ids, chosen)]
    pictures = {
        image: decode_image(table.study.split.images / name).numpy().transpose(1, 2, 0)
        for image, name in zip(chosen, names, strict=True)
    }
    if len(table.rows) > len(rows):
        caption += f" The first {len(rows)} of {len(table.rows)} rows."
    return draw_best_anchors(pictures, best), title, caption


def draw_best_anchors(pictures: dict[int, NDArray[np.uint8]], best: dict[str, BestAnchors]) -> Any:
    """A grid: a line for each of the ``pictures`` (H,W,3) by image id, a column for each method."""
    from matplotlib.lines import Line2D

    heights = [picture.shape[0] / picture.shape[1] for picture in pictures.values()]
    wide = 2.5
    figure, panels = new_figure(
        wide * len(best) + 0.3,
        sum(wide * height + 0.32 for height in heights) + 0.75,
        len(pictures),
        len(best),
        height_ratios=heights,
    )
    for line, (image_id, picture) in enumerate(pictures.items()):
        for column, (name, anchors) in enumerate(best.items()):
            axes = panels[line * len(best) + column]
            axes.imshow(picture, interpolation="bilinear")
            shown = _largest_objects(anchors, image_id)
            for place in shown:
                _draw_object(axes, anchors, place)
            sure, located = anchors.ious[shown].mean(axis=0)
            axes.set_xlabel(f"IoU {sure:.2f} surest, {located:.2f} best", fontsize=8, color=QUIET, labelpad=3)
            axes.set(xticks=[], yticks=[], xlim=(0, picture.shape[1]), ylim=(picture.shape[0], 0))
            for spine in axes.spines.values():
                spine.set_visible(False)
            if line == 0:
                axes.set_title(name, fontsize=9.5, pad=4)
    keys = [
        Line2D([], [], color=_TRUTH, linewidth=1.5, label="object"),
        Line2D([], [], color=_SURE, linewidth=1.5, linestyle="--", marker="s", label="highest score"),
        Line2D([], [], color=_LOCATED, linewidth=1.5, marker="o", label="highest IoU"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=3)
    return figure


def _largest_objects(anchors: BestAnchors, image_id: int) -> NDArray[np.intp]:
    """Places of the largest objects of an image."""
    places = np.flatnonzero(anchors.image_ids == image_id)
    sides = anchors.objects[places, 2:] - anchors.objects[places, :2]
    order = np.argsort(-sides.prod(axis=1), kind="stable")
    return places[order[:_OBJECTS]]


def _draw_object(axes: Any, anchors: BestAnchors, place: int) -> None:
    _draw_box(axes, anchors.objects[place], color=_TRUTH, linewidth=1.6)
    _draw_box(axes, anchors.boxes[place, 1], color=_LOCATED, linewidth=1.4)
    _draw_box(axes, anchors.boxes[place, 0], color=_SURE, linewidth=1.4, linestyle="--")
    axes.plot(*anchors.points[place].T, color="white", linewidth=1.0)
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.8}
    axes.plot(*anchors.points[place, 0], marker="s", markersize=7, color=_SURE, **edge)
    axes.plot(*anchors.points[place, 1], marker="o", markersize=4.5, color=_LOCATED, **edge)


def _draw_box(axes: Any, box: NDArray[np.float32], **style: Any) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = (float(value) for value in box)
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **style))
