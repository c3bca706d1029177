"""What lies behind AP: classes and kinds of errors, the same in the file, the report and the evaluation."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tood.evaluation.error_kinds import ErrorKind, find_errors
from tood.reporting.comparison import Comparison, ComparisonStudy, compare
from tood.reporting.details_table import NAMES, class_table, error_table
from tood.reporting.report import write_report
from tood.reporting.table_files import write_tables


@pytest.fixture
def comparison(make_study: Callable[..., ComparisonStudy]) -> Comparison:
    rows = {"atss": ("atss", 0.4), "tood": ("tood", 0.9)}
    return compare(make_study(rows=rows, seeds=2, images=30), resamples=100)


def test_details_are_those_of_the_evaluation(comparison: Comparison, tmp_path: Path) -> None:
    write_tables(comparison, tmp_path)
    table = pd.read_csv(tmp_path / "details.csv").set_index(["run", "group", "name"])
    assert len(table) == 2 * (3 + 6)
    for row in comparison.rows:
        metrics = [run.metrics() for run in row.row.runs]
        for name, count in comparison.objects.items():
            line = table.loc[(row.name, "class", name)]
            expected = sum(one.per_class[name].AP or 0.0 for one in metrics) / len(metrics)
            assert line["value"] == pytest.approx(expected, abs=1e-5)
            assert line["low"] <= line["value"] <= line["high"]
            assert line["count"] == count
        found = [find_errors(comparison.study.table, run.detections()).counts() for run in row.row.runs]
        for kind in ErrorKind:
            assert table.loc[(row.name, "error", NAMES[kind]), "count"] == sum(one[kind] for one in found) / 2
    values = table["value"].unstack("run")
    assert (values["tood"] - values["atss"]).to_numpy() == pytest.approx(
        table.xs("tood")["delta"].reindex(values.index).to_numpy(), abs=2e-6
    )
    assert table.xs("atss")["delta"].isna().all()
    assert table.loc[("tood", "error", "missed"), "delta_clear"] in ("true", True)


def test_the_report_has_both_tables(comparison: Comparison, tmp_path: Path) -> None:
    classes, errors = class_table(comparison), error_table(comparison)
    assert [line[0] for line in classes] == ["class", *comparison.objects]
    assert [line[0] for line in errors] == ["run", "atss", "tood", "tood - atss"]
    write_report(comparison, [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for cell in (classes[1][2], errors[1][1], errors[3][1]):
        assert f"<td>{cell}</td>" in page


def test_one_run_a_row_has_no_clear_details(make_study: Callable[..., ComparisonStudy], tmp_path: Path) -> None:
    write_tables(compare(make_study(images=20), resamples=50), tmp_path)
    assert pd.read_csv(tmp_path / "details.csv")["delta_clear"].isna().all()
