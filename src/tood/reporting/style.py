"""Style of all figures (colours, fonts, labels). Matplotlib is imported on use, since that takes a second."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from tood.io.write import write_with

# Okabe & Ito, in the order that keeps neighbours apart for colour-blind readers and in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
_DASHES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, QUIET, GRID = "#222222", "#6b6b6b", "#e4e4e4"

_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a name is a "$"
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlepad": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.8,
}


def draw_bars(axes: Any, labels: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]) -> list[list[float]]:
    """A group of bars for each label, in it a bar for each row (name, heights); where the bars of each row stand."""
    wide = 0.8 / len(rows)
    places = []
    for position, (name, heights) in enumerate(rows):
        at = [group - 0.4 + wide * (position + 0.5) for group in range(len(labels))]
        look = {"color": colour_of(position), "hatch": hatch_of(position), "edgecolor": "white", "linewidth": 0}
        axes.bar(at, heights, wide * 0.9, label=name, **look)
        places.append(at)
    axes.set_xticks(range(len(labels)), labels, color=INK)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", color=GRID)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return places


def colour_of(position: int) -> str:
    """Colour of the row at ``position`` of the table, the same in every figure."""
    return _COLOURS[position % len(_COLOURS)]


def dash_of(position: int) -> str:
    """Line style that tells rows apart when the colours start again."""
    return _DASHES[position // len(_COLOURS) % len(_DASHES)]


def hatch_of(position: int) -> str | None:
    """Pattern that tells bars apart when the colours start again."""
    return (None, "///", "...", "xx")[position // len(_COLOURS) % 4]


def marker_of(position: int) -> str:
    return _MARKERS[position % len(_MARKERS)]


@contextmanager
def house_style() -> Iterator[None]:
    """Figures that are drawn and saved inside this block have the shared look."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, list[Any]]:
    """A figure of ``width`` x ``height`` inches and its axes in reading order."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width, height), layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.ravel())


def save(figure: Any, path: Path) -> None:
    """Write a PNG at 144 dpi that depends on nothing but its content.

    A character that DejaVu Sans does not have, such as Chinese ones and most emoji, is drawn as an empty box, and names
    that leave no room for a plot are drawn over it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s)Glyph \d+ .*missing from font|constrained_layout not applied")
        write_with(path, lambda target: figure.savefig(target, dpi=144, metadata={"Software": None}))


def label_line_ends(axes: Any, labels: Sequence[tuple[float, float, str, str]], gap: float) -> None:
    """Write names (x, y, text, colour) right of the ends of lines, moved apart to at least ``gap`` in y."""
    ordered = sorted(labels, key=lambda label: label[1])
    for (x, _, text, colour), height in zip(ordered, spread([y for _, y, _, _ in ordered], gap), strict=True):
        axes.annotate(
            text,
            (x, height),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            annotation_clip=False,
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights moved apart to at least ``gap``, by as little as possible in the squared mean.

    Those that are too close form a block around their mean; blocks that then touch become one (the isotonic
    regression of ``heights[i] - i * gap``).
    """
    blocks: list[list[float]] = []  # of the heights less i * gap
    for position, height in enumerate(heights):
        blocks.append([height - position * gap])
        while len(blocks) > 1 and fmean(blocks[-1]) < fmean(blocks[-2]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    levels = [fmean(block) for block in blocks for _ in block]
    return [level + position * gap for position, level in enumerate(levels)]
