"""HTML report of a study (``report.html``): one self-contained file with tables and figures."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from PIL import Image

from tood.io.escape import escape
from tood.io.write import write_text
from tood.reporting.alignment_table import (
    AlignedRow,
    AlignmentTable,
    alignment_cells,
    alignment_note,
    defined_terms,
    is_best_cell,
)
from tood.reporting.comparison import ComparedRow, Comparison
from tood.reporting.details_table import ERROR_NOTE, class_table, confusion_tables, error_table, threshold_table
from tood.reporting.figures import Figure
from tood.reporting.flat_settings import differing, with_same_keys
from tood.reporting.provenance import provenance
from tood.reporting.published_rows import BLOCK_NOTE, incomparable_note, published_cells, published_view
from tood.reporting.run_folder import RunFolder
from tood.reporting.table_files import column_note, marked_rows, table_cells
from tood.reporting.wording import (
    NONE,
    delta_title,
    duration,
    headline,
    method_note,
    number,
    origin_note,
    unlike_note,
)

_TEMPLATE = "report.html.j2"
_WIDE, _SHRINK = 1300, 0.72  # narrower figures are shown smaller than drawn, so that they are crisp


@dataclass(frozen=True)
class Cell:
    """One cell of the main table with a second line; ``kind`` names CSS classes such as best or clear."""

    text: str
    kind: str = ""
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure inside the page; ``width`` in CSS pixels."""

    title: str
    caption: str
    uri: str
    width: int


@dataclass(frozen=True)
class RunDetails:
    """A run's resolved configuration as YAML."""

    name: str
    config: str


@dataclass(frozen=True)
class PublishedBlock:
    """The published numbers, in a table of their own."""

    title: str
    note: str
    lines: list[list[str]]
    sources: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class AlignmentBlock:
    """The alignment analysis: its table, what the terms mean, its figures."""

    header: list[str]
    lines: list[list[Cell]]
    note: str
    terms: list[tuple[str, str]]
    pictures: list[Picture]


def write_report(
    comparison: Comparison,
    figures: Sequence[Figure],
    path: Path,
    *,
    alignment: AlignmentTable | None = None,
    alignment_figures: Sequence[Figure] = (),
) -> None:
    """Write the report of a comparison, and of its runs' alignment analysis, whose figures are already on disk."""
    study = comparison.study
    runs = [run for row in study.rows for run in row.runs]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_escape_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    header, lines = _main_table(comparison)
    text = environment.get_template(_TEMPLATE).render(
        study=study,
        headline=headline(comparison),
        header=header,
        lines=lines,
        column_note=column_note(comparison),
        method_note=method_note(comparison),
        unlike_note=unlike_note(comparison),
        origin_note=origin_note(comparison),
        incomparable_note=incomparable_note(comparison),
        published=_published_block(comparison),
        alignment=None if alignment is None else _alignment_block(alignment, alignment_figures),
        pictures=[_picture(figure) for figure in figures],
        classes=class_table(comparison),
        errors=error_table(comparison),
        error_note=ERROR_NOTE,
        thresholds=threshold_table(comparison),
        confusions=confusion_tables(comparison),
        training=_training_table(runs),
        settings=_settings_table(runs),
        runs=[RunDetails(run.name, yaml.safe_dump(run.config(), sort_keys=False)) for run in runs],
        origin=provenance(study.name),
    )
    write_text(path, text)


def _escape_text(value: Any) -> Any:
    """Escape control characters in names; HTML is escaped by jinja's autoescape."""
    return escape(value, lines=True) if type(value) is str else value  # Markup comes from the template itself


def _main_table(comparison: Comparison) -> tuple[list[str], list[list[Cell]]]:
    """The table for people with each interval as the second line of the value it belongs to."""
    header, texts = table_cells(comparison)
    marked, title = marked_rows(comparison), delta_title(comparison)
    shown = [name for name in header if not name.endswith(" interval")]
    lines = []
    for row, cells in zip(comparison.rows, texts, strict=True):
        text = dict(zip(header, cells, strict=True))
        kinds = {"AP": "best"} if row.name in marked else {}
        kinds |= {title: _delta_kind(row, comparison), "published AP": "published", "Δ published": "quiet"}
        notes = {name: text[f"{name} interval"] for name in ("AP", title) if text[f"{name} interval"] != NONE}
        lines.append([Cell(text[name], kinds.get(name, ""), notes.get(name, "")) for name in shown])
    return shown, lines


def _published_block(comparison: Comparison) -> PublishedBlock | None:
    view = published_view(comparison)
    if view is None:
        return None
    header, lines = published_cells(view)
    return PublishedBlock(view.table.title, BLOCK_NOTE, [header, *lines], view.sources, view.table.notes)


def _alignment_block(table: AlignmentTable, figures: Sequence[Figure]) -> AlignmentBlock:
    header, texts = alignment_cells(table)
    lines = [
        [Cell(text, _aligned_kind(table, row, name)) for text, name in zip(cells, header, strict=True)]
        for row, cells in zip(table.rows, texts, strict=True)
    ]
    pictures = [_picture(figure) for figure in figures]
    return AlignmentBlock(header, lines, alignment_note(table), defined_terms(table), pictures)


def _aligned_kind(table: AlignmentTable, row: AlignedRow, name: str) -> str:
    if name.startswith("published "):
        return "published"
    return "best" if is_best_cell(table, row, name) else ""


def _delta_kind(row: ComparedRow, comparison: Comparison) -> str:
    if row.delta is None:
        return "quiet"
    if not comparison.is_clear(row):
        return "unclear"
    return "clear" if row.delta.value > 0 else "clear worse"


def _training_table(runs: Sequence[RunFolder]) -> list[list[str]]:
    lines = [
        [
            "run",
            "device",
            "precision",
            "images a step",
            "learning rate",
            "epochs",
            "steps",
            "time",
            "attempts",
        ]
    ]
    for run in runs:
        took = run.training()
        device = f"{took.processes} × {took.device}" if took.processes > 1 else took.device
        rate = "" if took.learning_rate is None else f"{took.learning_rate:g}"
        counts = [number(value, 0) for value in (took.effective_batch, took.epochs, took.steps)]
        lines.append(
            [
                run.name,
                device,
                took.precision,
                counts[0],
                rate,
                *counts[1:],
                duration(took.seconds),
                str(took.attempts),
            ]
        )
    return lines


def _settings_table(runs: Sequence[RunFolder]) -> list[list[str]]:
    """Header and a line for each setting in which the runs differ; empty for one run."""
    tables = with_same_keys([run.config() for run in runs])
    keys = [key for key in differing(tables) if key not in ("run", "row")]
    if not keys:
        return []
    return [
        ["setting", *(run.name for run in runs)],
        *([key, *(table[key] for table in tables)] for key in keys),
    ]


def _picture(figure: Figure) -> Picture:
    content = figure.path.read_bytes()
    with Image.open(figure.path) as image:
        width = image.width if image.width >= _WIDE else round(image.width * _SHRINK)
    uri = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return Picture(figure.title, figure.caption, uri, width)
