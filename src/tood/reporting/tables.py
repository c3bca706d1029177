"""``comparison.csv`` for programs (fractions, seconds), ``.md`` for people (percent), ``.tex`` for papers."""

from pathlib import Path
from typing import Any

import pandas as pd

from tood.evaluation.significance import Interval
from tood.files import write_text, write_with
from tood.reporting.comparison import MEASURED, SPREAD, ComparedRow, Comparison
from tood.reporting.wording import (
    NONE,
    duration,
    headline,
    method_note,
    millions,
    number,
    percent,
    percent_range,
    points,
    points_range,
)

_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "_&%#${}"},
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
    }
)


def write_tables(comparison: Comparison, folder: Path) -> None:
    """Write ``comparison.csv``, ``comparison.md`` and ``comparison.tex`` into ``folder``."""
    frame = comparison_frame(comparison)
    write_with(folder / "comparison.csv", lambda path: frame.to_csv(path, index=False))
    write_text(folder / "comparison.md", markdown(comparison))
    write_text(folder / "comparison.tex", latex(comparison))


def comparison_frame(comparison: Comparison) -> pd.DataFrame:
    """One line per row, measured columns first; fractions, seconds, GiB; blank where undefined.

    ``seeds`` counts the runs that a line is the mean of, ``AP_std``, ``AP50_std`` and ``AP75_std`` are sample
    standard deviations over them.
    """
    return pd.DataFrame([_record(row, comparison) for row in comparison.rows])


def _record(row: ComparedRow, comparison: Comparison) -> dict[str, Any]:
    values: dict[str, Any] = {"run": row.name}
    values |= {name: _rounded(row.stats[name]) for name in MEASURED}
    values["delta_AP"] = _rounded(row.delta.value if row.delta else None)
    values |= _bounds("delta_AP", row.delta.interval if row.delta else None)
    values |= _bounds("AP", row.interval)
    values |= {f"{name}_std": _rounded(row.std[name]) for name in SPREAD}
    return values | {
        "seeds": row.seeds,
        "parameters": None if row.parameters is None else round(row.parameters),
        "gflops": _rounded(row.gflops),
        "training_seconds": round(row.training_seconds, 1),
        "peak_memory_gib": _rounded(row.peak_memory_gib),
        "images_per_second": _rounded(row.images_per_second),
        "method": row.row.method,
        "backbone": row.row.backbone,
        "schedule": row.row.schedule,
        "baseline": comparison.study.baseline,
        "split": comparison.study.split,
        "checkpoint": row.checkpoint,
        "resamples": comparison.resamples,
    }


def _bounds(name: str, interval: Interval | None) -> dict[str, float | None]:
    return {
        f"{name}_low": _rounded(interval.low if interval else None),
        f"{name}_high": _rounded(interval.high if interval else None),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def table_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table for people: AP in percent, differences in percentage points."""
    with_seeds = any(row.seeds > 1 for row in comparison.rows)
    header = ["run", *MEASURED, "AP interval", "Δ AP", "Δ AP interval"]
    header += ["seeds"] if with_seeds else []
    header += ["parameters", "GFLOPs", "training", "memory", "images/s"]
    return header, [_cells(row, comparison, with_seeds) for row in comparison.rows]


def _cells(row: ComparedRow, comparison: Comparison, with_seeds: bool) -> list[str]:
    cells = [row.name, *(percent(row.stats[name]) for name in MEASURED)]
    if row.std["AP"] is not None:
        cells[1] += f" ± {percent(row.std['AP'])}"
    cells.append(percent_range(row.interval))
    if row.name == comparison.study.baseline:
        cells += ["baseline", NONE]
    else:
        delta = row.delta
        cells += [points(delta.value if delta else None), points_range(delta.interval if delta else None)]
    cells += [str(row.seeds)] if with_seeds else []
    memory = NONE if row.peak_memory_gib is None else f"{row.peak_memory_gib:.1f} GiB"
    return [
        *cells,
        millions(row.parameters),
        number(row.gflops, 1 if row.gflops is None or row.gflops >= 10 else 2),
        duration(row.training_seconds),
        memory,
        number(row.images_per_second),
    ]


def best_columns(comparison: Comparison) -> dict[str, float]:
    """The largest value of each measured column, which the tables set in bold."""
    found = {}
    for name in MEASURED:
        values = [row.stats[name] for row in comparison.rows]
        known = [round(value, 3) for value in values if value is not None]
        if len(comparison.rows) > 1 and known:
            found[name] = max(known)
    return found


def is_best(row: ComparedRow, name: str, best: dict[str, float]) -> bool:
    value = row.stats[name]
    return value is not None and name in best and round(value, 3) == best[name]


COLUMN_NOTE = (
    "AP values are percent, Δ AP is percentage points to the baseline. GFLOPs are multiply-accumulates of "
    "one image at the test size; training is wall time summed over all attempts, memory its peak; "
    "images/s is inference."
)


def markdown(comparison: Comparison) -> str:
    """The table with the conclusion above it and what the reader must know below it."""
    header, lines = table_cells(comparison)
    best = best_columns(comparison)
    for cells, row in zip(lines, comparison.rows, strict=True):
        cells[0] = _markdown_text(cells[0])
        for column, name in enumerate(MEASURED, start=1):
            if is_best(row, name, best):
                cells[column] = f"**{cells[column]}**"
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    rule = ["-" * width for width in widths]
    table = [
        "| " + " | ".join(_pad(cell, width, i) for i, (cell, width) in enumerate(zip(line, widths, strict=True))) + " |"
        for line in [header, rule, *lines]
    ]
    table[1] = "|" + "|".join(f"{'-' * (width + 1)}{':' if i else '-'}" for i, width in enumerate(widths)) + "|"
    parts = [
        f"# {_markdown_text(comparison.study.title)}",
        headline(comparison),
        "\n".join(table),
        COLUMN_NOTE,
        method_note(comparison),
    ]
    return "\n\n".join(parts) + "\n"


def _markdown_text(text: str) -> str:
    """On one line, and without a "|" that would start another cell."""
    return " ".join(text.split()).replace("|", "\\|")


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def latex(comparison: Comparison) -> str:
    """A booktabs table; the best value of each column is bold."""
    best = best_columns(comparison)
    header = [*("AP$_{" + name[2:] + "}$" if name != "AP" else "AP" for name in MEASURED), "$\\Delta$AP"]
    header += ["params", "GFLOPs", "images/s"]
    lines = [
        "% Made from comparison.csv; needs \\usepackage{booktabs}.",
        f"% {headline(comparison)}".replace("\n", " "),
        f"% {method_note(comparison)}",
        "\\begin{tabular}{l" + "r" * len(header) + "}",
        "\\toprule",
        " & ".join(["method", *header]) + r" \\",
        "\\midrule",
        *(" & ".join(_latex_cells(row, comparison, best)) + r" \\" for row in comparison.rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cells(row: ComparedRow, comparison: Comparison, best: dict[str, float]) -> list[str]:
    cells = [_escaped(row.name)]
    for name in MEASURED:
        text = percent(row.stats[name])
        if name == "AP" and row.std["AP"] is not None:
            text += f" $\\pm$ {percent(row.std['AP'])}"
        cells.append(f"\\textbf{{{text}}}" if is_best(row, name, best) else text)
    if row.delta is None:
        cells.append("--")
    else:
        low, high = (f"{100 * bound:+.1f}" for bound in (row.delta.interval.low, row.delta.interval.high))
        cells.append(f"${100 * row.delta.value:+.1f}$ $[{low}, {high}]$")
    cells += [millions(row.parameters), number(row.gflops), number(row.images_per_second)]
    return [cell.replace(NONE, "--") for cell in cells]


def _escaped(text: str) -> str:
    return " ".join(text.split()).translate(_LATEX)
