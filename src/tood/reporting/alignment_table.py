"""Table of the alignment analysis of a study's rows (the paper's Table 6): ``alignment.csv`` and ``alignment.md``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tood.config.published_table import PublishedAlignment
from tood.io.errors import UserError
from tood.io.write import write_text, write_with
from tood.reporting.comparison import ComparedRow, Comparison, ComparisonStudy
from tood.reporting.published_rows import comparable
from tood.reporting.run_folder import Alignment, RunFolder
from tood.reporting.table_files import harmless_cells, markdown_table, markdown_text
from tood.reporting.wording import NONE, number, percent

TABLES = ("alignment.csv", "alignment.md")


@dataclass(frozen=True)
class Measure:
    """A column: its name in the files, in the table and in the file of published numbers, and which way is better."""

    key: str
    label: str
    published: str
    digits: int
    larger_is_better: bool

    def text(self, value: float | None) -> str:
        if value is None:
            return NONE
        return f"{value:.{self.digits}f}" if self.digits else f"{round(value):,}"


MEASURES = (
    Measure("pcc_top50", "PCC top-50", "pcc", 3, True),
    Measure("iou_top10", "IoU top-10", "iou10", 3, True),
    Measure("correct", "#correct", "correct", 0, True),
    Measure("redundant", "#redundant", "redundant", 0, False),
    Measure("error", "#error", "error", 0, False),
)
_COUNTED = ("on_crowd", "elsewhere", "detections", "objects", "objects_with_pcc", "objects_with_iou")
_TERMS = {one.key: one.label for one in MEASURES} | {"on_crowd": "on a crowd"}


@dataclass(frozen=True)
class AlignedRow:
    """A row with its numbers: means over seeds, None where undefined; ``std`` are sample standard deviations over them.

    ``published`` are numbers of others; ``source`` names them.
    """

    row: ComparedRow
    means: Mapping[str, float | None]
    std: Mapping[str, float | None]
    published: PublishedAlignment | None
    source: str

    @property
    def name(self) -> str:
        return self.row.name

    def run(self) -> RunFolder:
        """The run that stands for the row in pictures: its first."""
        return self.row.row.runs[0]


@dataclass(frozen=True)
class AlignmentTable:
    """The analysed rows of a study, and what the numbers mean, by term."""

    study: ComparisonStudy
    rows: tuple[AlignedRow, ...]
    definitions: Mapping[str, str]

    def sources(self) -> list[str]:
        """Sources of the published numbers; empty if there are none beside ours."""
        return list(dict.fromkeys(row.source for row in self.rows if row.published is not None))

    def best(self, measure: Measure) -> str:
        """The best value of a column as it is printed; empty where there is one row, or a row of one run."""
        if any(len(row.row.row.runs) < 2 for row in self.rows):
            return ""
        values = [value for row in self.rows if (value := row.means[measure.key]) is not None]
        if len(self.rows) < 2 or not values:
            return ""
        return measure.text(max(values) if measure.larger_is_better else min(values))


def alignment_table(comparison: Comparison) -> AlignmentTable:
    """Read the analyses of all runs of a comparison.

    Raises UserError where one is missing, was made with other settings than the study's, on another split, or by
    other definitions than the others.
    """
    study = comparison.study
    records = {row.name: [_record(run, study.split.name) for run in row.row.runs] for row in comparison.rows}
    first = comparison.rows[0].row.runs[0]
    definitions = records[comparison.rows[0].name][0].definitions
    for row in comparison.rows:
        for run, record in zip(row.row.runs, records[row.name], strict=True):
            if record.definitions != definitions:
                raise UserError(
                    f"{run.path / 'alignment.json'}: its numbers are defined otherwise than those of {first.name}; "
                    f"make both again with: tood analyse --run {run.path}"
                )
    return AlignmentTable(
        study, tuple(_aligned_row(row, records[row.name], study) for row in comparison.rows), definitions
    )


def _record(run: RunFolder, split: str) -> Alignment:
    found = run.alignment()
    if found.split != split:
        raise UserError(
            f"{run.path / 'alignment.json'}: was measured on split '{found.split}', the comparison is on '{split}'; "
            f"make it again with: tood analyse --run {run.path}"
        )
    return found


def _aligned_row(row: ComparedRow, records: Sequence[Alignment], study: ComparisonStudy) -> AlignedRow:
    keys = [*(one.key for one in MEASURES), *_COUNTED]
    values = {key: [getattr(record, key) for record in records] for key in keys}
    known = {key: np.array(column, float) for key, column in values.items() if None not in column}
    published, source = _published(row.name, study)
    return AlignedRow(
        row=row,
        means={key: float(known[key].mean()) if key in known else None for key in keys},
        std={key: float(known[key].std(ddof=1)) if key in known and len(records) > 1 else None for key in keys},
        published=published,
        source=source,
    )


def _published(row: str, study: ComparisonStudy) -> tuple[PublishedAlignment | None, str]:
    """The row's published numbers and the words of their source, where they compare with the study's."""
    table = study.published
    if table is None or not comparable(study) or row not in table.rows:
        return None, ""
    found = next((value for value in table.rows[row].values if value.alignment is not None), None)
    return (None, "") if found is None else (found.alignment, table.sources[found.source])


def write_alignment_tables(table: AlignmentTable | None, folder: Path) -> None:
    """Write ``alignment.csv`` and ``alignment.md``; without a table remove those of an earlier call."""
    if table is None:
        for name in TABLES:
            (folder / name).unlink(missing_ok=True)
        return
    frame = alignment_frame(table)
    write_with(folder / TABLES[0], lambda path: harmless_cells(frame).to_csv(path, index=False))
    write_text(folder / TABLES[1], alignment_markdown(table))


def alignment_frame(table: AlignmentTable) -> pd.DataFrame:
    """One line per row: AP a fraction, means over ``seeds`` runs, ``*_std`` over them; blank where undefined."""
    frame = pd.DataFrame([_values(row, table) for row in table.rows])
    counts = [*(one.key for one in MEASURES if not one.digits), *_COUNTED]
    return frame.astype({key: int for key in counts if (frame[key] % 1 == 0).all()})


def _values(row: AlignedRow, table: AlignmentTable) -> dict[str, Any]:
    values = {"run": row.name, "AP": _rounded(row.row.stats["AP"])}
    values |= {key: _rounded(value) for key, value in row.means.items()}
    values |= {f"{one.key}_std": _rounded(row.std[one.key]) for one in MEASURES}
    values |= {"seeds": row.row.seeds, "split": table.study.split.name}
    if table.sources():
        values |= {f"published_{one.key}": getattr(row.published, one.published, None) for one in MEASURES}
        values["published_source"] = row.source or None
    return values


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def alignment_cells(table: AlignmentTable) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table for people; AP in percent."""
    with_published = bool(table.sources())
    header = ["run", "AP", *(one.label for one in MEASURES)]
    header += [f"published {one.label}" for one in MEASURES] if with_published else []
    lines = []
    for row in table.rows:
        ap = percent(row.row.stats["AP"])
        cells = [row.name, ap if row.row.std["AP"] is None else f"{ap} ± {percent(row.row.std['AP'])}"]
        for one in MEASURES:
            spread = row.std[one.key]
            cells.append(one.text(row.means[one.key]) + ("" if spread is None else f" ± {one.text(spread)}"))
        if with_published:
            cells += [one.text(getattr(row.published, one.published, None)) for one in MEASURES]
        lines.append(cells)
    return header, lines


def is_best_cell(table: AlignmentTable, row: AlignedRow, label: str) -> bool:
    """Whether a cell of ``alignment_cells`` is set in bold: the best of its column, fewest for the two bad counts."""
    measure = next((one for one in MEASURES if one.label == label), None)
    return measure is not None and measure.text(row.means[measure.key]) == table.best(measure)


def alignment_note(table: AlignmentTable) -> str:
    """What the numbers were measured on, and how to read them beside published ones."""
    first = table.rows[0]
    objects, defined = first.means["objects"], [row.means["objects_with_pcc"] for row in table.rows]
    text = (
        f"Split {table.study.split.name} of {table.study.dataset}, {number(objects, 0)} objects. The correlation is "
        f"defined for at least {number(min(value or 0 for value in defined), 0)} of them."
    )
    if sources := table.sources():
        text += (
            f" Published numbers were measured by others ({'; '.join(sources)}), who do not say which predictions "
            "belong to an object, nor how crowds and ties count: compare the order of the rows, not the values."
            + _order(table)
        )
    if any(table.best(measure) for measure in MEASURES):
        text += " Bold: best of its column."
    return text


def _order(table: AlignmentTable) -> str:
    """A sentence naming the columns in which our rows have the same order as the published numbers."""
    rows = [row for row in table.rows if row.published is not None]
    same: list[str] = []
    other: list[str] = []
    for one in MEASURES:
        ours = [value for row in rows if (value := row.means[one.key]) is not None]
        theirs = [getattr(row.published, one.published) for row in rows]
        if len(ours) == len(theirs) > 1:
            (same if np.array_equal(np.argsort(ours), np.argsort(theirs)) else other).append(one.label)
    text = f" The order is the published one in {', '.join(same)}." if same else ""
    return text + (f" It is another in {', '.join(other)}." if other else "")


def defined_terms(table: AlignmentTable) -> list[tuple[str, str]]:
    """(term, definition), in the words that lie beside the numbers in ``alignment.json``."""
    return [(_TERMS.get(key, key), text) for key, text in table.definitions.items()]


def alignment_markdown(table: AlignmentTable) -> str:
    """The table, what it was measured on, and what every term means."""
    header, lines = alignment_cells(table)
    shown = []
    for cells, row in zip(lines, table.rows, strict=True):
        bold = [
            f"**{cell}**" if is_best_cell(table, row, label) else cell
            for cell, label in zip(cells, header, strict=True)
        ]
        shown.append([markdown_text(bold[0]), *bold[1:]])
    parts = [
        f"# Alignment of score and IoU: {markdown_text(table.study.title)}",
        markdown_table(header, shown),
        alignment_note(table),
        "\n".join(f"- **{term}**: {text}" for term, text in defined_terms(table)),
    ]
    return "\n\n".join(parts) + "\n"
