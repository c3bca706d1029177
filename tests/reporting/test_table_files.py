"""One table for programs, one for people, one for papers, all saying the same."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tood.reporting.comparison import Comparison, ComparisonStudy, compare
from tood.reporting.report import write_report
from tood.reporting.table_files import latex, markdown, write_tables
from tood.reporting.wording import duration, millions, percent, points


@pytest.fixture
def comparison(make_study: Callable[..., ComparisonStudy]) -> Comparison:
    return compare(make_study(), resamples=200)


def test_csv_starts_with_what_was_measured_as_fractions(comparison: Comparison, tmp_path: Path) -> None:
    write_tables(comparison, tmp_path)
    table = pd.read_csv(tmp_path / "comparison.csv")
    assert list(table.columns[:7]) == ["run", "AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert table["run"].tolist() == ["atss", "gfl", "tood"]
    for row, line in zip(comparison.rows, table.itertuples(), strict=True):
        assert abs(line.AP - row.ap) < 1e-6
        assert 0 < line.AP_low < line.AP < line.AP_high < 1
    baseline, _, tood = table.itertuples()
    assert pd.isna(baseline.delta_AP)
    assert tood.delta_AP_low < tood.delta_AP < tood.delta_AP_high
    assert tood.training_seconds == 1260.0
    assert tood.peak_memory_gib == pytest.approx(1.3e9 / 2**30, abs=1e-4)
    assert table["AP_std"].isna().all()
    assert set(table["split"]) == {"val"}
    assert set(table["checkpoint"]) == {"last (epoch 12)"}
    assert set(table["resamples"]) == {200}


def test_markdown_says_what_a_reader_must_know(comparison: Comparison) -> None:
    text = markdown(comparison)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 3
    assert len({line.count("|") for line in rows}) == 1
    for needed in (
        "percent",
        "Split val of cells, which was watched during training, 24 images",
        "last (epoch 12)",
        "200 resamples",
        "One run a row decides nothing",
    ):
        assert needed in text
    assert "**" not in text, "one run a row has no best"
    assert "Δ AP of these runs, images only" in rows[0]
    assert "break-even seed SD" in rows[0]


def test_latex_has_a_cell_for_each_column(comparison: Comparison) -> None:
    lines = [line for line in latex(comparison).splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + 3
    assert {line.count("&") for line in lines} == {10}
    assert r"\textbf{" not in latex(comparison)


def test_what_is_clear_and_best_is_marked_alike_in_all_tables(
    make_study: Callable[..., ComparisonStudy], tmp_path: Path
) -> None:
    rows = {"atss": ("atss", 0.4), "gfl": ("gfl", 0.4), "tood": ("tood", 0.9)}
    comparison = compare(make_study(rows=rows, seeds=3, images=40), resamples=200)
    write_tables(comparison, tmp_path)
    table = pd.read_csv(tmp_path / "comparison.csv", dtype=str, keep_default_na=False).set_index("run")
    assert table["delta_clear"].to_dict() == {"atss": "", "gfl": "false", "tood": "true"}
    assert table["leader"].to_dict() == {"atss": "false", "gfl": "false", "tood": "true"}
    assert set(table["still_rising"]) == {"false"}
    tood = comparison.row("tood")
    shown = f"{percent(tood.stats['AP'])} ± {percent(tood.std['AP'])}"
    assert re.findall(r"\*\*(.*?)\*\*", markdown(comparison)) == [shown]
    assert re.findall(r"\\textbf\{(.*?)\}", latex(comparison)) == [shown.replace("±", r"$\pm$")]
    lines = {line.split("|")[1].strip(): line for line in markdown(comparison).splitlines() if line.startswith("|")}
    assert f"{points(tood.delta.value)} clear" in lines["tood"]
    assert "clear" not in lines["gfl"]
    write_report(comparison, [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert re.findall(r'class="best">(.*?)<', page) == [shown]
    assert len(re.findall(r'class="clear">', page)) == 1


def test_latex_escapes_names(make_study: Callable[..., ComparisonStudy]) -> None:
    name = "a_b\\c{d}^e~f%g&h#i$j"
    study = make_study(rows={"plain": ("atss", 0.5)}, baseline="plain", images=4)
    study = replace(study, rows=(replace(study.rows[0], name=name),), baseline=name)
    text = latex(compare(study, resamples=20))
    expected = r"a\_b\textbackslash{}c\{d\}\textasciicircum{}e\textasciitilde{}f\%g\&h\#i\$j &"
    assert (
        [line for line in text.splitlines() if line.startswith("a")]
        == [line for line in text.splitlines() if line.startswith(expected)]
        != []
    )


def test_bars_and_line_breaks_in_names_do_not_break_the_table(make_study: Callable[..., ComparisonStudy]) -> None:
    study = make_study(images=4)
    rows = (replace(study.rows[0], name="a|b\nc"), *study.rows[1:])
    text = markdown(compare(replace(study, rows=rows, baseline="a|b\nc", title="One | two"), resamples=20))
    assert text.startswith("# One \\| two\n")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3
    assert table[2].startswith("| a\\|b c")
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


def test_spread_over_seeds_is_in_the_csv_for_all_three_and_in_the_table_for_ap(
    make_study: Callable[..., ComparisonStudy], tmp_path: Path
) -> None:
    result = compare(make_study(rows={"atss": ("atss", 0.5)}, seeds=2, images=6), resamples=20)
    write_tables(result, tmp_path)
    table = pd.read_csv(tmp_path / "comparison.csv")
    for name in ("AP", "AP50", "AP75"):
        values = [getattr(run.metrics(), name) for run in result.rows[0].row.runs]
        assert table[f"{name}_std"][0] == pytest.approx(abs(values[0] - values[1]) / 2**0.5, abs=1e-6)
        assert table[f"{name}_std"][0] > 0
    assert table["seeds"].tolist() == [2]
    text = markdown(result)
    (line,) = (line for line in text.splitlines() if line.startswith("| atss"))
    assert line.count(" ± ") == 1
    assert "comparison.csv of AP50 and AP75" in text
    assert "Seeds counts the runs of a row" in text


def test_undefined_ap_is_a_blank_or_a_dash_everywhere(
    make_study: Callable[..., ComparisonStudy],
    without_objects: Callable[[ComparisonStudy], ComparisonStudy],
    tmp_path: Path,
) -> None:
    study = make_study(images=4, seeds=2)
    study = without_objects(study)
    comparison = compare(study, resamples=20)
    write_tables(comparison, tmp_path)
    table = pd.read_csv(tmp_path / "comparison.csv")
    assert len(table) == 3
    assert table[["AP", "AP50", "AP_low", "delta_AP", "AP_std", "AP75_std"]].isna().all(axis=None)
    text = (tmp_path / "comparison.md").read_text()
    assert "No AP is defined" in text
    assert "nan" not in text.lower()
    assert "& -- &" in (tmp_path / "comparison.tex").read_text()
    write_report(comparison, [], tmp_path / "report.html")
    assert "No AP is defined" in (tmp_path / "report.html").read_text()


def test_numbers_in_words() -> None:
    assert percent(0.41254) == "41.3"
    assert percent(None) == "–"
    assert [points(v) for v in (0.0123, -0.0123, 0.0001, -0.0001)] == ["+1.2", "−1.2", "0.0", "0.0"]
    assert [duration(v) for v in (12, 200, 3900, 3599.7)] == [
        "12 s",
        "3 min 20 s",
        "1 h 05 min",
        "1 h 00 min",
    ]
    assert [millions(v) for v in (3.214e6, 32.14e6)] == ["3.21 M", "32.1 M"]
