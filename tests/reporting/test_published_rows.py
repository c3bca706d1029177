"""Published numbers stand beside ours and never among them."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tood.config.published_table import PublishedTable
from tood.config.study import load_study
from tood.data.prepared import PreparedSplit
from tood.mlflow_mirror.entries import mirrored_runs, mirrored_study
from tood.reporting.comparison import Comparison, ComparisonStudy, compare, comparison_study
from tood.reporting.frame import comparison_frame
from tood.reporting.published_rows import published_view
from tood.reporting.report import write_report
from tood.reporting.table_files import latex, markdown, marked_rows, write_tables
from tood.reporting.wording import headline, points

MakeStudy = Callable[..., ComparisonStudy]
PARAMS = Path(__file__).parents[2] / "params"


def value(**changes: Any) -> dict[str, Any]:
    return {"source": "paper", "split": "val", "epochs": 12, "AP": 91.3, "AP50": 99.6, "AP75": 97.4, **changes}


def table(**rows: list[dict[str, Any]]) -> PublishedTable:
    return PublishedTable.model_validate(
        {
            "name": "paper/made_up",
            "title": "A made-up table",
            "dataset": "cells",
            "sources": {"paper": "A paper, Table 7", "repo": "A repository, README"},
            "notes": ("Nothing of it is true.",),
            "rows": {name: {"label": f"Label of {name}", "values": values} for name, values in rows.items()},
        }
    )


ROWS = {
    "atss": [value(AP=90.1)],
    "tood": [value(), value(source="repo", AP=90.7, AP50=None, AP75=None)],
    "vfnet": [value(AP=93.8, APs=78.9)],
}


@pytest.fixture
def study(make_study: MakeStudy) -> ComparisonStudy:
    """Rows atss, gfl and tood; the published table has no gfl, but a vfnet that was not trained here."""
    return replace(make_study(), published=table(**ROWS))


@pytest.fixture
def comparison(study: ComparisonStudy) -> Comparison:
    return compare(study, resamples=50)


def shown(comparison: Comparison, folder: Path) -> dict[str, str]:
    """Everything that is written for readers."""
    write_tables(comparison, folder)
    write_report(comparison, [], folder / "report.html")
    names = ("comparison.csv", "comparison.md", "comparison.tex", "report.html")
    return {name: (folder / name).read_text("utf-8") for name in names}


def main_and_block(text: str) -> tuple[list[list[str]], list[list[str]]]:
    """Cells of the two Markdown tables."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(blocks) == 2
    cells = [[[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()] for block in blocks]
    return cells[0], cells[1]


def test_ours_minus_published_stands_beside_each_row(comparison: Comparison) -> None:
    main, _ = main_and_block(markdown(comparison))
    header, _, atss, gfl, tood = main
    first = header.index("published AP")
    assert header[first + 1] == "Δ published"
    assert atss[first : first + 2] == ["90.1 [1]", points(comparison.row("atss").ap - 0.901)]
    assert tood[first : first + 2] == ["91.3 [1]", points(comparison.row("tood").ap - 0.913)]
    assert gfl[first : first + 2] == ["–", "–"]


def test_what_was_not_trained_here_is_in_a_block_of_its_own(comparison: Comparison, tmp_path: Path) -> None:
    texts = shown(comparison, tmp_path)
    main, block = main_and_block(texts["comparison.md"])
    assert [line[0] for line in main[2:]] == ["atss", "gfl", "tood"]
    assert [line[:5] for line in block[2:]] == [
        ["atss", "[1]", "val", "12", "90.1"],
        ["tood", "[1]", "val", "12", "91.3"],
        ["tood", "[2]", "val", "12", "90.7"],
        ["Label of vfnet", "[1]", "val", "12", "93.8"],
    ]
    assert block[0][4:] == ["AP", "AP50", "AP75", "APs"], "columns in which there is nothing are left out"
    for name in ("comparison.md", "comparison.tex", "report.html"):
        for needed in (
            "A paper, Table 7",
            "A repository, README",
            "Nothing of it is true.",
            "none of them was measured",
        ):
            assert needed in texts[name]
    ours, others = texts["report.html"].split('<section class="published">')
    assert "Label of vfnet" not in ours
    assert "<li>A paper, Table 7</li>" in others
    measured, published = texts["comparison.tex"].split("\\end{tabular}", 1)
    assert "vfnet" not in measured
    assert "Label of vfnet & [1]" in published


def test_csv_keeps_them_in_columns_of_their_own(comparison: Comparison, tmp_path: Path) -> None:
    shown(comparison, tmp_path)
    frame = pd.read_csv(tmp_path / "comparison.csv")
    assert frame["run"].tolist() == ["atss", "gfl", "tood", "tood", "vfnet"]
    assert frame["kind"].tolist() == ["measured"] * 3 + ["published"] * 2
    measured, published = frame[frame["kind"] == "measured"], frame[frame["kind"] == "published"]
    ours = [name for name in frame if not name.startswith("published_") and name not in ("run", "kind")]
    assert ours == [name for name in comparison_frame(without(comparison)) if name != "run"]
    assert published[ours].isna().all(axis=None)
    assert published["published_AP"].tolist() == [0.907, 0.938]
    assert published["published_delta_AP"].isna().all()
    assert published["published_source"].tolist() == ["A repository, README", "A paper, Table 7"]
    atss, gfl, tood = measured.itertuples()
    assert (tood.published_AP, tood.published_AP50, tood.published_AP75) == (0.913, 0.996, 0.974)
    assert tood.published_delta_AP == pytest.approx(tood.AP - 0.913, abs=2e-6)
    assert pd.isna(gfl.published_AP)
    assert atss.parameters == 13_220_118
    assert "13220118," in (tmp_path / "comparison.csv").read_text(), "blank cells make no fraction of a count"


def without(comparison: Comparison) -> Comparison:
    """The same comparison of a study that names no published numbers."""
    return replace(comparison, study=replace(comparison.study, published=None))


def test_they_change_nothing_that_is_ours(make_study: MakeStudy, tmp_path: Path) -> None:
    """Though all of them are far above what was measured."""
    study = replace(make_study(seeds=3, images=40), published=table(**ROWS))
    comparison = compare(study, resamples=50)
    plain = compare(replace(study, published=None), resamples=50)
    assert [(row.stats, row.interval, row.delta) for row in plain.rows] == [
        (row.stats, row.interval, row.delta) for row in comparison.rows
    ]
    assert headline(plain) == headline(comparison)
    assert marked_rows(plain) == marked_rows(comparison)
    for write in (markdown, latex):
        bold = [re.findall(r"\*\*.*?\*\*|\\textbf\{.*?\}", write(one)) for one in (plain, comparison)]
        assert bold[0] == bold[1] != []
    lines = comparison_frame(plain).to_csv(index=False).splitlines()
    texts = shown(comparison, tmp_path)
    assert [line[: len(old)] for line, old in zip(texts["comparison.csv"].splitlines(), lines, strict=False)] == lines
    ours = texts["report.html"].split('<section class="published">')[0]
    assert not re.search(r'class="best">9\d\.', ours)


def test_the_mirror_has_ours_alone(study: ComparisonStudy, comparison: Comparison) -> None:
    folder = study.rows[0].runs[0].path.parent
    before = mirrored_runs(study.name, [run for row in study.rows for run in row.runs])
    shown(comparison, folder)
    after = mirrored_runs(study.name, [run for row in study.rows for run in row.runs])
    assert [(run.params, run.points) for run in after] == [(run.params, run.points) for run in before]
    parent = mirrored_study(study.name, folder, after)
    assert (dict(parent.params), parent.points) == ({}, ())


@pytest.mark.parametrize(
    "changes",
    [{"name": "cells@demo"}, {"dataset": "shapes"}, {"name": "cells@shapes", "dataset": "shapes"}],
    ids=["at a scale", "other data", "other data by command"],
)
def test_a_study_on_other_data_or_at_a_scale_shows_none_and_says_so(
    study: ComparisonStudy, comparison: Comparison, changes: dict[str, str], tmp_path: Path
) -> None:
    other = replace(comparison, study=replace(study, **changes))
    texts = shown(other, tmp_path)
    for name, text in texts.items():
        assert "published AP" not in text
        assert "published_" not in text
        assert "vfnet" not in text
        for number in ("91.3", "90.7", "93.8", "0.913"):
            assert number not in text
        if name != "comparison.csv":
            (sentence,) = re.findall(r"No published numbers stand here: .*?\.", text)
            assert "are for COCO (cells)" in sentence
            assert "not comparable" in sentence
    assert list(pd.read_csv(tmp_path / "comparison.csv")["run"]) == ["atss", "gfl", "tood"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"split": "test-dev"}, "91.3 [1], test-dev"),
        ({"epochs": 24}, "91.3 [1], 24 epochs"),
        ({"epochs": None}, "91.3 [1], epochs unknown"),
        ({"note": "with voting"}, "91.3 [1], with voting"),
    ],
)
def test_what_was_measured_otherwise_is_shown_without_a_difference(
    study: ComparisonStudy, changes: dict[str, Any], text: str
) -> None:
    comparison = compare(replace(study, published=table(tood=[value(**changes)])), resamples=20)
    main, _ = main_and_block(markdown(comparison))
    first = main[0].index("published AP")
    assert main[-1][first : first + 2] == [text, "–"]
    frame = comparison_frame(comparison)
    assert frame["published_delta_AP"].isna().all()
    assert frame["published_AP"].tolist()[2] == 0.913


def test_of_several_sources_the_one_measured_as_ours_was_stands_beside(study: ComparisonStudy) -> None:
    values = [value(split="test-dev", AP=92.0), value(epochs=24), value(source="repo", AP=90.7), value(AP=90.8)]
    comparison = compare(replace(study, published=table(tood=values)), resamples=20)
    view = published_view(comparison)
    assert view is not None
    assert view.beside["tood"].text == "90.7 [2]"
    assert view.beside["tood"].delta == pytest.approx(comparison.row("tood").ap - 0.907)
    assert [one.value.AP for one in view.values()] == [90.7, 92.0, 91.3, 90.8]


def test_rows_without_ap_have_no_difference(
    study: ComparisonStudy, without_objects: Callable[[ComparisonStudy], ComparisonStudy], tmp_path: Path
) -> None:
    study = without_objects(study)
    texts = shown(compare(study, resamples=20), tmp_path)
    assert pd.read_csv(tmp_path / "comparison.csv")["published_delta_AP"].isna().all()
    assert "No AP is defined" in texts["comparison.md"]


def test_names_and_sources_are_escaped(study: ComparisonStudy, tmp_path: Path) -> None:
    odd = PublishedTable.model_validate(
        {
            **table(**ROWS).model_dump(),
            "sources": {"paper": "A <b>|</b> & 5 %", "repo": "r_1"},
            "rows": {"x": {"label": "a|<i>_b", "values": [value()]}},
        }
    )
    texts = shown(compare(replace(study, published=odd), resamples=20), tmp_path)
    assert "<b>" not in texts["report.html"]
    assert "<i>" not in texts["report.html"]
    assert r"a|<i>\_b &" in texts["comparison.tex"]
    assert r"A <b>|</b> \& 5 \%" in texts["comparison.tex"]
    lines = [line for line in texts["comparison.md"].splitlines() if line.startswith("| a\\|\\<i>_b")]
    assert len(lines) == 1


def test_latex_tables_have_a_cell_for_each_column(comparison: Comparison) -> None:
    tables = re.findall(r"\\begin\{tabular\}\{(lr+)\}(.*?)\\end\{tabular\}", latex(comparison), re.DOTALL)
    assert len(tables) == 2
    for columns, body in tables:
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {line.count("&") + 1 for line in lines} == {len(columns)}
        assert len(lines) >= 4


def test_a_study_file_brings_its_published_numbers(tmp_path: Path) -> None:
    split = PreparedSplit("val", tmp_path / "val.json", tmp_path / "images", 3, 4, "0")
    study = comparison_study(load_study("paper/table3", PARAMS), tmp_path, split)
    assert study.published is not None
    assert study.published.name == "paper/table3"
    assert comparison_study(load_study("demo", PARAMS), tmp_path, split).published is None
