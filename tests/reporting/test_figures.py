"""Every figure is written, and each for its reason left out."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tood.reporting.comparison import ComparisonStudy, compare
from tood.reporting.figures import draw_ap_by_epoch, draw_figures, draw_precision_recall
from tood.reporting.sheet import draw_sheet
from tood.reporting.style import spread

MakeStudy = Callable[..., ComparisonStudy]
WithoutObjects = Callable[[ComparisonStudy], ComparisonStudy]
ALL = [
    "deltas",
    "ap_by_epoch",
    "precision_recall",
    "sizes",
    "errors",
    "f1",
    "reliability",
    "cost",
    "side_by_side",
    "worst_errors",
]


def test_all_figures_have_content_and_words(make_study: MakeStudy, tmp_path: Path) -> None:
    figures = draw_figures(compare(make_study(), resamples=50), tmp_path / "figures")
    assert [figure.path.stem for figure in figures] == ALL
    for figure in figures:
        pixels = np.asarray(Image.open(figure.path).convert("L"))
        assert min(pixels.shape) > 200
        assert pixels.std() > 10
        assert figure.title
        assert figure.caption.endswith(".")


def test_figures_are_the_same_for_the_same_files(make_study: MakeStudy, tmp_path: Path) -> None:
    comparison = compare(make_study(rows={"atss": ("atss", 0.5)}, images=4), resamples=20)
    first = draw_figures(comparison, tmp_path / "one")
    second = draw_figures(comparison, tmp_path / "two")
    assert [a.path.read_bytes() == b.path.read_bytes() for a, b in zip(first, second, strict=True)] == [True] * 9
    assert "deltas" not in [figure.path.stem for figure in first]


def test_history_without_evaluation_has_no_curve(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(rows={"atss": ("atss", 0.5)}, images=4)
    path = study.rows[0].runs[0].path / "history.csv"
    path.write_text("step,epoch,time,lr,loss,val_AP\n10,1,1700000000.0,0.01,2.5,\n")
    figures = draw_figures(compare(study, resamples=20), tmp_path)
    assert "ap_by_epoch" not in [figure.path.stem for figure in figures]


def test_sheet_has_a_column_for_truth_and_each_row_but_never_too_many(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study()
    widths = []
    for rows in (study.rows, study.rows * 4):
        named = tuple(replace(row, name=f"{row.name}{i}") for i, row in enumerate(rows))
        assert draw_sheet(replace(study, rows=named, baseline=named[-1].name), named[-2].name, tmp_path / "s.png")
        with Image.open(tmp_path / "s.png") as sheet:
            widths.append(sheet.width)
    assert widths == [4 * 346 - 6, 6 * 346 - 6]


def test_of_many_classes_the_most_frequent_are_shown(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(rows={"atss": ("atss", 0.5)}, images=4)
    comparison = compare(study, resamples=20)
    names = [f"class{i}" for i in range(30)]
    lines = ["class,iou,recall,precision"]
    lines += [f"{name},0.5,{recall / 100},0.5" for name in [*names, "null"] for recall in range(101)]
    run = study.rows[0].runs[0].path
    (run / "pr.csv").write_text("\n".join(lines) + "\n")
    metrics = json.loads((run / "metrics.json").read_text())
    per_class = {name: {"AP": 0.5, "AP50": 0.5} for name in [*names, "null"]}
    (run / "metrics.json").write_text(json.dumps({**metrics, "per_class": per_class}))
    objects = {name: i for i, name in enumerate(names)} | {"null": 99}
    figure = draw_precision_recall(replace(comparison, objects=objects))
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]
    frequent = ["null (n = 99)", *(f"class{i} (n = {i})" for i in range(29, 19, -1))]
    assert titles == ["mean of classes", *frequent]


def test_figures_of_an_earlier_call_are_removed_and_foreign_files_stay(
    make_study: MakeStudy, without_objects: WithoutObjects, tmp_path: Path
) -> None:
    comparison = compare(make_study(images=4), resamples=20)
    foreign = tmp_path / "mine.png"
    foreign.write_bytes(b"mine")
    assert [figure.path.stem for figure in draw_figures(comparison, tmp_path)] == ALL
    study = without_objects(comparison.study)
    for row in comparison.study.rows:
        (row.runs[0].path / "history.csv").write_text("step,epoch,time,lr,loss,val_AP\n10,1,1700000000.0,0.01,2.5,\n")
    empty = compare(study, resamples=20)
    assert draw_figures(empty, tmp_path) == []
    assert [path.name for path in tmp_path.glob("*.png")] == [foreign.name]


def test_curves_start_where_ap_is_defined(make_study: MakeStudy, tmp_path: Path) -> None:
    """A blank val_AP is no zero; a run that never has one does not stop the others' figure."""
    study = make_study(images=4)
    header = "step,epoch,time,lr,loss,val_AP\n"
    blank, first, second = (
        f"{10 * epoch},{epoch},1700000000.0,0.01,2.5,{ap}\n" for epoch, ap in enumerate(("", 0.2, 0.3), start=1)
    )
    for row, text in zip(study.rows, (blank + first + second, blank, first + second), strict=True):
        (row.runs[0].path / "history.csv").write_text(header + text)
    comparison = compare(study, resamples=20)
    (axes,) = draw_ap_by_epoch(comparison).axes
    assert [line.get_xdata().tolist() for line in axes.lines] == [[2, 3], [], [2, 3]]
    assert "ap_by_epoch" in [figure.path.stem for figure in draw_figures(comparison, tmp_path)]


def test_curves_say_the_split_of_training_and_the_sheet_that_of_the_comparison(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study(images=4)
    comparison = compare(study, resamples=20)
    on_test = replace(comparison, study=replace(study, split=replace(study.split, name="test")))
    captions = {figure.path.stem: figure.caption for figure in draw_figures(on_test, tmp_path)}
    assert "cells val" in captions["ap_by_epoch"]
    assert "cells test" in captions["side_by_side"]
    (axes,) = draw_ap_by_epoch(on_test).axes
    assert "AP by epoch on cells val" in (axes.get_title(), axes.get_title(loc="left"))


def test_dollars_in_names_are_no_mathematics(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(rows={r"a$\b$": ("atss", 0.5)}, baseline=r"a$\b$", images=4)
    assert len(draw_figures(compare(study, resamples=20), tmp_path)) == 9


@given(st.lists(st.floats(0, 100), max_size=12).map(sorted), st.floats(0.1, 10))
def test_labels_that_are_too_close_move_apart_around_their_mean(heights: list[float], gap: float) -> None:
    moved = spread(heights, gap)
    assert all(right - left >= gap - 1e-9 for left, right in pairwise(moved))
    assert sum(moved) == pytest.approx(sum(heights))
    if all(right - left > gap for left, right in pairwise(heights)):
        assert moved == pytest.approx(heights)
