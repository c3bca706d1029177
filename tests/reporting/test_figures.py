"""Every figure is written, and each for its reason left out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tood.reporting.comparison import ComparisonStudy, compare
from tood.reporting.figures import draw_figures, draw_precision_recall
from tood.reporting.sheet import draw_sheet

MakeStudy = Callable[..., ComparisonStudy]
ALL = ["deltas", "ap_by_epoch", "precision_recall", "sizes", "cost", "side_by_side"]


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
    assert [a.path.read_bytes() == b.path.read_bytes() for a, b in zip(first, second, strict=True)] == [True] * 5
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
    lines += [f"{name},0.5,{recall},0.5" for name in [*names, "null"] for recall in (0.0, 0.5, 1.0)]
    (study.rows[0].runs[0].path / "pr.csv").write_text("\n".join(lines) + "\n")
    objects = {name: i for i, name in enumerate(names)} | {"null": 99}
    figure = draw_precision_recall(replace(comparison, objects=objects))
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]
    frequent = ["null (n = 99)", *(f"class{i} (n = {i})" for i in range(29, 19, -1))]
    assert titles == ["mean of classes", *frequent]
