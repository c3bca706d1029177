"""Names that could be code for a terminal, a browser, TeX or a spreadsheet are shown, and are none of that."""

import csv
import html
import io
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tood.data.box_drawing import draw_detections
from tood.data.split_table import SplitTable
from tood.evaluation.coco_metrics import evaluate_detections
from tood.evaluation.outputs import write_evaluation
from tood.io.escape import escape
from tood.reporting.comparison import ComparisonStudy, compare
from tood.reporting.figures import draw_figures
from tood.reporting.report import write_report
from tood.reporting.table_files import write_tables

CLASSES = (
    "<script>alert(1)</script>\x1b[31m",
    "猫 👩\u200d💻 كلب 🏴\U000e0067\U000e007f",
    "=cmd|' /C calc'!A0\"\n\u202ex\0$_%",
)
ROWS = ('=1+1,"a"\r\n|<img src=x onerror=alert(1)>', "\x1b]0;owned\x07 $x$ \\input{/etc/passwd} 100% [a](javascript:b)")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture
def named(make_study: Callable[..., ComparisonStudy]) -> ComparisonStudy:
    """A study whose classes, rows, title and description mean harm."""
    study = make_study(rows={"atss": ("atss", 0.5), "tood": ("tood", 0.8)}, images=6)
    content = json.loads(study.split.annotations.read_text())
    for category, name in zip(content["categories"], CLASSES, strict=True):
        category["name"] = name
    study.split.annotations.write_text(json.dumps(content))
    for run in (run for row in study.rows for run in row.runs):
        result = evaluate_detections(SplitTable.of_json(study.split.annotations), run.detections())
        write_evaluation(run.path, result, split="val", checkpoint="last", images_per_second=9.0, seconds=1.0)
    rows = tuple(replace(row, name=name) for row, name in zip(study.rows, ROWS, strict=True))
    return replace(study, rows=rows, baseline=ROWS[0], title=CLASSES[0], description=CLASSES[2])


def test_tables_report_and_figures_take_any_name(named: ComparisonStudy, tmp_path: Path) -> None:
    comparison = compare(named, resamples=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # also of glyphs that a font does not have
        figures = draw_figures(comparison, tmp_path / "figures")
    assert len(figures) == 10
    write_tables(comparison, tmp_path)
    write_report(comparison, figures, tmp_path / "report.html")

    page = (tmp_path / "report.html").read_text()
    assert not CONTROLS.search(page)
    assert not re.search(r"<script|<img src=x", page)
    text = html.unescape(page)
    for name in (*CLASSES, *ROWS):
        assert escape(name, lines=True) in text

    markdown = (tmp_path / "comparison.md").read_text()
    assert not CONTROLS.search(markdown)
    assert not re.search(r"(?<!\\)<(img|script)", markdown)
    assert "](" not in markdown
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1

    table = (tmp_path / "comparison.csv").read_bytes().decode()
    assert not CONTROLS.search(table)
    rows = list(csv.reader(io.StringIO(table)))
    assert len(rows) == 3
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[1][0].startswith("'=1+1,")

    tex = (tmp_path / "comparison.tex").read_text()
    assert not CONTROLS.search(tex)
    assert "\\input" not in re.sub(r"(?m)^%.*$", "", tex)
    assert all(line.startswith("%") or "onerror" not in line or line.endswith(r"\\") for line in tex.splitlines())


def test_classes_come_back_from_the_curves_as_they_were(named: ComparisonStudy) -> None:
    run = named.rows[0].runs[0]
    assert set(run.precision_recall()["class"]) == set(CLASSES)
    written = (run.path / "pr.csv").read_bytes().decode()
    assert not CONTROLS.search(written)
    cells = {row[0] for row in csv.reader(io.StringIO(written))}
    assert len(cells) == 1 + len(CLASSES)
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_curves_from_before_names_were_made_harmless_are_read_as_they_are(named: ComparisonStudy) -> None:
    run = named.rows[0].runs[0]
    run.precision_recall().to_csv(run.path / "pr.csv", index=False)
    assert set(run.precision_recall()["class"]) == set(CLASSES)


@pytest.mark.parametrize("name", [*CLASSES, "", "\ud800", "x" * 5000, "\n" * 50])
def test_captions_take_any_name(name: str) -> None:
    drawn = draw_detections(Image.new("RGB", (80, 60)), [[5, 20, 60, 50]], [0], [0.9], [name])
    assert np.asarray(drawn).any()
