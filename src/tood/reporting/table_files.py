"""Comparison tables as files: ``comparison.csv`` (fractions, seconds), ``.md`` (percent) and ``.tex`` for papers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tood.io.escape import escape, is_formula
from tood.io.write import write_text, write_with
from tood.reporting.comparison import MEASURED, ComparedRow, Comparison
from tood.reporting.details_table import details_frame
from tood.reporting.frame import comparison_frame
from tood.reporting.published_rows import (
    BESIDE_NOTE,
    BLOCK_NOTE,
    PublishedView,
    incomparable_note,
    published_cells,
    published_view,
)
from tood.reporting.wording import (
    MORE_IMAGES,
    NONE,
    delta_title,
    duration,
    headline,
    method_note,
    millions,
    number,
    origin_note,
    percent,
    percent_range,
    points,
    points_of,
    points_range,
    row_name,
    unlike_note,
)

_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "_&%#${}"},
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
    }
)
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\|<`*"})


def write_tables(comparison: Comparison, folder: Path) -> None:
    """Write ``comparison.csv``, ``details.csv``, ``comparison.md`` and ``comparison.tex`` into ``folder``."""
    frame = harmless_cells(comparison_frame(comparison))
    write_with(folder / "comparison.csv", lambda path: frame.to_csv(path, index=False))
    details = harmless_cells(details_frame(comparison))
    write_with(folder / "details.csv", lambda path: details.to_csv(path, index=False))
    write_text(folder / "comparison.md", markdown(comparison))
    write_text(folder / "comparison.tex", latex(comparison))


def harmless_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with texts that a spreadsheet would compute as a formula prefixed by an apostrophe."""
    texts = frame.select_dtypes(include=["object", "string"]).columns
    return frame.assign(**{name: frame[name].map(_escape_formula) for name in texts})


def _escape_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = escape(value, lines=True)
    return f"'{text}" if is_formula(text) else text


def table_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table for people: AP in percent, differences in percentage points."""
    with_seeds = any(row.seeds > 1 for row in comparison.rows)
    view = published_view(comparison)
    title = delta_title(comparison)
    header = ["run", *MEASURED, "AP interval", title, f"{title} interval"]
    header += _planning_header(comparison)
    header += ["published AP", "Δ published"] if view else []
    header += ["seeds"] if with_seeds else []
    header += ["parameters", "GFLOPs", "training", "memory", "images/s"]
    return header, [_cells(row, comparison, view, with_seeds) for row in comparison.rows]


def _planning_header(comparison: Comparison) -> list[str]:
    if len(comparison.rows) == 1:
        return []
    single = any(row.delta is not None and not row.delta.estimate.decides for row in comparison.rows)
    return [*(["break-even seed SD"] if single else []), "runs to decide"]


def _planning_cells(row: ComparedRow, comparison: Comparison) -> list[str]:
    header = _planning_header(comparison)
    if row.delta is None or not header:
        return [NONE] * len(header)
    runs = comparison.runs_to_decide(row)
    wanted = NONE if comparison.is_clear(row) else MORE_IMAGES if runs is None else str(runs)
    return [*([points_of(row.delta.estimate.break_even_seed_sd)] if len(header) > 1 else []), wanted]


def _cells(row: ComparedRow, comparison: Comparison, view: PublishedView | None, with_seeds: bool) -> list[str]:
    cells = [row_name(row), *(percent(row.stats[name]) for name in MEASURED)]
    if row.std["AP"] is not None:
        cells[1] += f" ± {percent(row.std['AP'])}"
    cells.append(percent_range(row.interval))
    if row.name == comparison.study.baseline:
        cells += ["baseline", NONE]
    else:
        delta = row.delta
        clear = " clear" if comparison.is_clear(row) else ""
        cells += [points(delta.value if delta else None) + clear, points_range(delta.interval if delta else None)]
    cells += _planning_cells(row, comparison)
    if view is not None:
        beside = view.beside.get(row.name)
        cells += [beside.text, points(beside.delta)] if beside else [NONE, NONE]
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


def marked_rows(comparison: Comparison) -> frozenset[str]:
    """Rows whose AP the tables set in bold: the best and those not told apart from it, unless that is all."""
    leaders = comparison.leaders()
    return frozenset(row.name for row in leaders) if len(leaders) < len(comparison.rows) else frozenset()


COLUMN_NOTE = (
    "AP values are percent, Δ AP is percentage points to the baseline. GFLOPs are multiply-accumulates of "
    "one image at the test size; training is wall time summed over all attempts, memory its peak; "
    "images/s is inference."
)


def column_note(comparison: Comparison) -> str:
    """What the columns of ``table_cells`` are."""
    return COLUMN_NOTE if published_view(comparison) is None else f"{COLUMN_NOTE} {BESIDE_NOTE}"


def markdown(comparison: Comparison) -> str:
    """The table with the conclusion above it and what the reader must know below it."""
    header, lines = table_cells(comparison)
    marked = marked_rows(comparison)
    for cells, row in zip(lines, comparison.rows, strict=True):
        cells[0] = markdown_text(cells[0])
        if row.name in marked:
            cells[1] = f"**{cells[1]}**"
    parts = [
        f"# {markdown_text(comparison.study.title)}",
        markdown_text(headline(comparison)),
        markdown_table(header, lines),
        column_note(comparison),
        markdown_text(method_note(comparison)),
        markdown_text(unlike_note(comparison)),
        markdown_text(origin_note(comparison)),
        markdown_text(incomparable_note(comparison)),
        *_markdown_published(comparison),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_published(comparison: Comparison) -> list[str]:
    """The block of published numbers with a footnote for each source."""
    view = published_view(comparison)
    if view is None:
        return []
    header, lines = published_cells(view)
    sources = [f"- [{number}] {markdown_text(text)}" for number, text in enumerate(view.sources, start=1)]
    return [
        f"## Published: {markdown_text(view.table.title)}",
        BLOCK_NOTE,
        markdown_table(header, [[markdown_text(cell) for cell in line] for line in lines]),
        "\n".join(sources),
        *(markdown_text(note) for note in view.table.notes),
    ]


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Cells in columns, the first to the left and the others to the right."""
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    table = [
        "| " + " | ".join(_pad(cell, width, i) for i, (cell, width) in enumerate(zip(line, widths, strict=True))) + " |"
        for line in [header, *lines]
    ]
    rule = "|" + "|".join(f"{'-' * (width + 1)}{':' if i else '-'}" for i, width in enumerate(widths)) + "|"
    return "\n".join([table[0], rule, *table[1:]])


def markdown_text(text: str) -> str:
    """On one line, and without marks that would start another cell, an element of HTML, a link or bold text."""
    return escape(" ".join(text.split())).translate(_MARKDOWN).replace("](", "]\\(")


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def latex(comparison: Comparison) -> str:
    """A booktabs table; bold as in the other tables. Published numbers get a second one."""
    view = published_view(comparison)
    header = [*(_latex_stat(name) for name in MEASURED), delta_title(comparison).replace("Δ ", "$\\Delta$")]
    header += ["published AP", "$\\Delta$ published"] if view else []
    header += ["params", "GFLOPs", "images/s"]
    lines = [
        "% Made from comparison.csv; needs \\usepackage{booktabs}.",
        _comment(headline(comparison)),
        _comment(method_note(comparison)),
        "\\begin{tabular}{l" + "r" * len(header) + "}",
        "\\toprule",
        " & ".join(["method", *header]) + r" \\",
        "\\midrule",
        *(" & ".join(_latex_cells(row, comparison, view)) + r" \\" for row in comparison.rows),
        "\\bottomrule",
        "\\end{tabular}",
        *(_latex_published(view) if view else []),
    ]
    lines[3:3] = [
        _comment(note)
        for note in (unlike_note(comparison), origin_note(comparison), incomparable_note(comparison))
        if note
    ]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    return f"% {escape(' '.join(text.split()))}"


def _latex_stat(name: str) -> str:
    return "AP$_{" + name[2:] + "}$" if name.startswith("AP") and name != "AP" else _escaped(name)


def _latex_published(view: PublishedView) -> list[str]:
    header, lines = published_cells(view)
    cells = [[_escaped(cell).replace(NONE, "--") for cell in line] for line in lines]
    return [
        "",
        f"% {BLOCK_NOTE}",
        "\\begin{tabular}{l" + "r" * (len(header) - 1) + "}",
        "\\toprule",
        " & ".join(_latex_stat(name) for name in header) + r" \\",
        "\\midrule",
        *(" & ".join(line) + r" \\" for line in cells),
        "\\bottomrule",
        "\\end{tabular}",
        *(rf"\par{{\footnotesize [{number}] {_escaped(text)}}}" for number, text in enumerate(view.sources, start=1)),
        *(_comment(note) for note in view.table.notes),
    ]


def _latex_cells(row: ComparedRow, comparison: Comparison, view: PublishedView | None) -> list[str]:
    marks = r"$^\dagger$" * bool(row.row.changed_code) + r"$^\uparrow$" * row.rising
    cells = [_escaped(row.name) + marks]
    for name in MEASURED:
        text = percent(row.stats[name])
        if name == "AP" and row.std["AP"] is not None:
            text += f" $\\pm$ {percent(row.std['AP'])}"
        bold = name == "AP" and row.name in marked_rows(comparison)
        cells.append(f"\\textbf{{{text}}}" if bold else text)
    if row.delta is None:
        cells.append("--")
    else:
        low, high = (f"{100 * bound:+.1f}" for bound in (row.delta.interval.low, row.delta.interval.high))
        cells.append(
            f"${100 * row.delta.value:+.1f}$ $[{low}, {high}]$" + (" clear" if comparison.is_clear(row) else "")
        )
    if view is not None:
        beside = view.beside.get(row.name)
        cells.append(_escaped(beside.text) if beside else NONE)
        cells.append(NONE if beside is None or beside.delta is None else f"${100 * beside.delta:+.1f}$")
    cells += [millions(row.parameters), number(row.gflops), number(row.images_per_second)]
    return [cell.replace(NONE, "--") for cell in cells]


def _escaped(text: str) -> str:
    return escape(" ".join(text.split())).translate(_LATEX)
