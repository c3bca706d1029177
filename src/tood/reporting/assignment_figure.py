"""Picture of an assignment: a line for each moment of the training, a column for each level of the pyramid."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tood.detection.points import STRIDES
from tood.evaluation.assignment_view import AssignmentView
from tood.reporting.style import QUIET, colour_of, house_style, new_figure, save

_WIDTH = 3.2  # inches of a column
_LEAST, _MOST = 8.0, 90.0  # points² of a location's mark, by its metric


def draw_assignment(
    path: Path, picture: NDArray[np.uint8], views: Sequence[AssignmentView], classes: Sequence[str], title: str
) -> None:
    """Write the PNG; ``picture`` (H,W,3) in which the locations lie. A mark is as large as its metric in its object."""
    height, width = picture.shape[:2]
    shown = [stride for stride in STRIDES if any((view.locations["stride"] == stride).any() for view in views)]
    shown = shown or [STRIDES[0]]
    with house_style():
        tall = (_WIDTH * height / width + 0.4) * len(views) + 0.4
        figure, every = new_figure(_WIDTH * len(shown), tall, len(views), len(shown))
        figure.suptitle(title, x=0.01, ha="left")
        for number, view in enumerate(views):
            line = every[number * len(shown) : (number + 1) * len(shown)]
            for axes, stride in zip(line, shown, strict=True):
                _draw_level(axes, picture, view, stride, classes)
            line[0].set_ylabel(view.moment, color=QUIET)
        save(figure, path)


def _draw_level(
    axes: Any, picture: NDArray[np.uint8], view: AssignmentView, stride: int, classes: Sequence[str]
) -> None:
    axes.imshow(picture // 2 + 127)  # paler, so that the marks are seen
    rows = view.locations[view.locations["stride"] == stride]
    for number, (left, top, right, bottom) in enumerate(view.boxes.tolist()):
        colour, own = colour_of(number), rows[rows["object"] == number]
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=colour, linewidth=1.2)
        axes.text(left, top - 2, classes[int(view.labels[number])], color=colour, fontsize=7, va="bottom")
        if len(own):
            best = view.locations.loc[view.locations["object"] == number, "metric"].max()
            size = _LEAST + (_MOST - _LEAST) * own["metric"] / max(best, np.finfo(np.float64).tiny)
            axes.scatter(own["x"], own["y"], s=size, color=colour, alpha=0.75, linewidths=0)
    axes.set_title(f"stride {stride}: {len(rows)} of {len(view.locations)} positives", fontsize=8.5)
    axes.set_xlim(0, picture.shape[1])
    axes.set_ylim(picture.shape[0], 0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
