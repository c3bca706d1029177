"""One table for programs, one for people, one for papers, all saying the same."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tood.reporting.comparison import Comparison, ComparisonStudy, compare
from tood.reporting.tables import latex, markdown, write_tables
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
        "Split val of cells, 24 images",
        "last (epoch 12)",
        "200 resamples",
        "excludes zero",
    ):
        assert needed in text
    best = comparison.row("tood")
    assert f"**{percent(best.stats['AP'])}**" in rows[-1]
    assert "**" not in rows[2]


def test_latex_has_a_cell_for_each_column(comparison: Comparison) -> None:
    lines = [line for line in latex(comparison).splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + 3
    assert {line.count("&") for line in lines} == {10}
    assert r"\textbf{" in lines[-1]


def test_latex_escapes_names(make_study: Callable[..., ComparisonStudy]) -> None:
    text = latex(compare(make_study(rows={"a_b": ("atss", 0.5)}, baseline="a_b"), resamples=20))
    assert r"a\_b &" in text


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
