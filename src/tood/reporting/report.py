"""``report.html``: one file that can be sent to somebody, with everything inside it and nothing fetched."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import yaml
from PIL import Image

from tood.files import write_text
from tood.reporting.comparison import MEASURED, ComparedRow, Comparison
from tood.reporting.figures import Figure
from tood.reporting.provenance import provenance
from tood.reporting.records import RunFolder
from tood.reporting.settings import aligned, differing
from tood.reporting.tables import COLUMN_NOTE, best_columns, is_best, table_cells
from tood.reporting.wording import NONE, duration, headline, method_note, number, percent

_TEMPLATE = "report.html.j2"
_MAX_CLASSES = 100
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


def write_report(comparison: Comparison, figures: Sequence[Figure], path: Path) -> None:
    """Write the report of a comparison whose figures are already on disk."""
    study = comparison.study
    runs = [run for row in study.rows for run in row.runs]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    header, lines = _main_table(comparison)
    text = environment.get_template(_TEMPLATE).render(
        study=study,
        headline=headline(comparison),
        header=header,
        lines=lines,
        column_note=COLUMN_NOTE,
        method_note=method_note(comparison),
        pictures=[_picture(figure) for figure in figures],
        classes=_class_table(comparison.rows),
        training=_training_table(runs),
        settings=_settings_table(runs),
        runs=[RunDetails(run.name, yaml.safe_dump(run.config(), sort_keys=False)) for run in runs],
        origin=provenance(study.name),
    )
    write_text(path, text)


def _main_table(comparison: Comparison) -> tuple[list[str], list[list[Cell]]]:
    """The table for people with each interval as the second line of the value it belongs to."""
    header, texts = table_cells(comparison)
    best = best_columns(comparison)
    shown = [name for name in header if not name.endswith(" interval")]
    lines = []
    for row, cells in zip(comparison.rows, texts, strict=True):
        text = dict(zip(header, cells, strict=True))
        kinds = {name: "best" for name in MEASURED if is_best(row, name, best)} | {"Δ AP": _delta_kind(row)}
        notes = {name: text[f"{name} interval"] for name in ("AP", "Δ AP") if text[f"{name} interval"] != NONE}
        lines.append([Cell(text[name], kinds.get(name, ""), notes.get(name, "")) for name in shown])
    return shown, lines


def _delta_kind(row: ComparedRow) -> str:
    if row.delta is None:
        return "quiet"
    if not row.delta.clear:
        return "unclear"
    return "clear" if row.delta.value > 0 else "clear worse"


def _class_table(rows: Sequence[ComparedRow]) -> list[list[str]]:
    """Header and a line per class: AP / AP50 of each row (its first run); empty for a single class."""
    metrics = [row.row.runs[0].metrics().per_class for row in rows]
    classes = list(dict.fromkeys(name for one in metrics for name in one))[:_MAX_CLASSES]
    if len(classes) < 2:
        return []
    lines = [["class", *(row.name for row in rows)]]
    for name in classes:
        found = [one.get(name) for one in metrics]
        lines.append([name, *(f"{percent(one.AP)} / {percent(one.AP50)}" if one else "" for one in found)])
    return lines


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
    tables = aligned([run.config() for run in runs])
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
