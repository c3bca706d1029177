"""The alignment table, its figures, its part of the report and of the mirror."""

import dataclasses
import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tood.config.published_table import PublishedTable
from tood.config.study import RunConfig
from tood.evaluation.alignment_files import BestAnchors
from tood.io.errors import UserError
from tood.mlflow_mirror.entries import mirrored_runs, run_folders
from tood.reporting.alignment_figures import draw_alignment_figures, draw_density
from tood.reporting.alignment_table import AlignmentTable, alignment_markdown, alignment_table, write_alignment_tables
from tood.reporting.comparison import ComparisonStudy, compare
from tood.reporting.report import write_report
from tood.reporting.run_folder import RunFolder
from tood.reporting.style import house_style

Make = Callable[..., ComparisonStudy]
TERMS = {"pcc_top50": "How scores and IoUs agree.", "correct": "IoU of at least 0.5, the object's first."}


def analyse(run: RunFolder, **changes: Any) -> None:
    """Write an analysis as ``tood analyse`` leaves it, made up but for its form."""
    content = {
        "split": "val",
        "checkpoint": "last (epoch 12)",
        "images": 24,
        "objects": 90,
        "pcc_top50": 0.4,
        "objects_with_pcc": 88,
        "iou_top10": 0.6,
        "objects_with_iou": 90,
        **{"detections": 160, "correct": 70, "redundant": 30, "error": 40, "on_crowd": 5, "elsewhere": 15},
        "definitions": TERMS,
        "fingerprint": run.training().fingerprint,
        "inference": {},
        **changes,
    }
    (run.path / "alignment.json").write_text(json.dumps(content))
    density = np.zeros((100, 50), np.int64)
    density[10:40, 5:45] = 7
    boxes = np.array([[10, 10, 60, 50], [15, 12, 70, 60]], np.float32)
    best = BestAnchors(
        image_ids=np.array([3, 17]),
        objects=boxes,
        points=np.full((2, 2, 2), 30, np.float32),
        boxes=np.stack([boxes, boxes], axis=1),
        scores=np.full((2, 2), 0.5, np.float32),
        ious=np.full((2, 2), 0.7, np.float32),
    )
    arrays = {field.name: getattr(best, field.name) for field in dataclasses.fields(best)}
    np.savez(run.path / "alignment.npz", density=density, **arrays)


@pytest.fixture
def make_table(make_study: Make) -> Callable[..., AlignmentTable]:
    """``changes`` by row: what its seeds' analyses have, one mapping each."""

    def build(changes: dict[str, list[dict[str, Any]]], *, seeds: int = 1, **fields: Any) -> AlignmentTable:
        study = dataclasses.replace(
            make_study(rows={"atss": ("atss", 0.5), "tood": ("tood", 0.8)}, seeds=seeds), **fields
        )
        for row in study.rows:
            for run, change in zip(row.runs, changes.get(row.name, [{}] * seeds), strict=True):
                analyse(run, **change)
        return alignment_table(compare(study, resamples=20))

    return build


def published(dataset: str) -> PublishedTable:
    alignments = {
        "atss": {"pcc": 0.3, "iou10": 0.5, "correct": 1111, "redundant": 222, "error": 333},
        "tood": {"pcc": 0.6, "iou10": 0.4, "correct": 1222, "redundant": 111, "error": 222},
    }
    rows = {
        name: {"values": [{"source": "a", "split": "val", "epochs": 12, "AP": 40.0, "alignment": values}]}
        for name, values in alignments.items()
    }
    sources = {"a": "Somebody, Table 1"}
    return PublishedTable.model_validate(
        {"name": "made_up", "title": "Made up", "dataset": dataset, "sources": sources, "rows": rows}
    )


def cells(markdown: str, row: str) -> list[str]:
    (line,) = (line for line in markdown.splitlines() if line.startswith(f"| {row} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_has_the_columns_of_the_papers(make_table: Callable[..., AlignmentTable], tmp_path: Path) -> None:
    better = {"pcc_top50": 0.4567, "iou_top10": 0.61, "correct": 71234, "redundant": 29, "error": 39}
    table = make_table({"tood": [better]})
    write_alignment_tables(table, tmp_path)
    text = (tmp_path / "alignment.md").read_text()
    assert "| run  |" in text
    header = next(line for line in text.splitlines() if line.startswith("| run"))
    names = [cell.strip() for cell in header.strip("|").split("|")]
    assert names == ["run", "AP", "PCC top-50", "IoU top-10", "#correct", "#redundant", "#error"]
    assert cells(text, "tood")[2:] == ["0.457", "0.610", "71,234", "29", "39"], "one run a row: nothing is called best"
    assert cells(text, "atss")[2:] == ["0.400", "0.600", "70", "30", "40"]
    for term in TERMS.values():
        assert term in text, "definitions stand beside the numbers"
    frame = pd.read_csv(tmp_path / "alignment.csv").set_index("run")
    assert frame.loc["tood", "pcc_top50"] == 0.4567
    assert frame.loc["tood", "AP"] == pytest.approx(table.rows[1].row.stats["AP"], abs=1e-6)
    assert not [name for name in frame.columns if "published" in name]


def test_seeds_are_averaged(make_table: Callable[..., AlignmentTable]) -> None:
    seeds = [{"pcc_top50": 0.4, "correct": 10}, {"pcc_top50": 0.5, "correct": 13}]
    table = make_table({"tood": seeds}, seeds=2)
    row = table.rows[1]
    assert row.means["pcc_top50"] == pytest.approx(0.45)
    assert row.std["pcc_top50"] == pytest.approx(np.std([0.4, 0.5], ddof=1))
    assert row.means["correct"] == 11.5
    assert cells(alignment_markdown(table), "tood")[2] == "**0.450 ± 0.071**"


def test_the_best_of_several_seeds_is_bold(make_table: Callable[..., AlignmentTable]) -> None:
    better = {"pcc_top50": 0.4567, "iou_top10": 0.61, "correct": 71234, "redundant": 29, "error": 39}
    text = alignment_markdown(make_table({"tood": [better, better]}, seeds=2))
    found = [cell.partition(" ±")[0].strip("*") for cell in cells(text, "tood")[2:]]
    assert found == ["0.457", "0.610", "71,234", "29", "39"], "fewer is better in the last two"
    assert all(cell.startswith("**") for cell in cells(text, "tood")[2:])
    assert "Bold" in text


def test_undefined_is_a_dash(make_table: Callable[..., AlignmentTable]) -> None:
    table = make_table({"tood": [{"pcc_top50": None, "objects_with_pcc": 0}]})
    text = alignment_markdown(table)
    assert cells(text, "tood")[2] == "–"
    assert cells(text, "atss")[2] == "0.400"
    assert "at least 0 of them" in text


def test_published_numbers_stand_beside_ours_only_where_they_compare(
    make_table: Callable[..., AlignmentTable], tmp_path: Path
) -> None:
    ours = {"tood": [{"pcc_top50": 0.5, "iou_top10": 0.7, "correct": 60, "redundant": 10, "error": 20}]}
    elsewhere = make_table(ours, published=published("coco2017"))
    assert "1,222" not in alignment_markdown(elsewhere)
    table = dataclasses.replace(elsewhere, study=dataclasses.replace(elsewhere.study, published=published("cells")))
    table = alignment_table(compare(table.study, resamples=20))
    text = alignment_markdown(table)
    assert cells(text, "tood")[7:] == ["0.600", "0.400", "1,222", "111", "222"], "and never bold"
    assert "Somebody, Table 1" in text
    assert "The order is the published one in PCC top-50, #redundant, #error." in text
    assert "It is another in IoU top-10, #correct." in text
    write_alignment_tables(table, tmp_path)
    frame = pd.read_csv(tmp_path / "alignment.csv").set_index("run")
    assert frame.loc["tood", "published_correct"] == 1222
    assert frame.loc["tood", "correct"] == 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "test"}, "measured on split 'test'"),
        ({"definitions": {"correct": "something else"}}, "defined otherwise than those of atss"),
    ],
)
def test_analyses_that_do_not_belong_together_are_refused(
    make_table: Callable[..., AlignmentTable], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"tood/alignment.json: .*{message}.*tood analyse --run"):
        make_table({"tood": [change]})


def test_missing_analysis_names_the_command(make_study: Make) -> None:
    comparison = compare(make_study(rows={"atss": ("atss", 0.5)}), resamples=20)
    with pytest.raises(UserError, match=r"alignment.json: no such file; make it with: tood analyse --run .*atss"):
        alignment_table(comparison)


def test_analysis_made_with_other_settings_is_refused(make_study: Make) -> None:
    run = make_study(rows={"atss": ("atss", 0.5)}).rows[0].runs[0]
    config = {
        **{"study": "cells", "run": "atss", "row": "atss", "seed": 0},
        "dataset": {"format": "voc", "name": "cells", "root": "/somewhere", "draw": {"val": 0.2}},
        "method": {"name": "tood", "head": {"kind": "task_aligned"}, "criterion": {"kind": "task_aligned"}},
        "backbone": {"name": "resnet18", "kind": "resnet18"},
        "schedule": {"name": "short", "epochs": 12},
    }
    wanted = RunConfig.model_validate(config)
    inference = wanted.method.inference.model_dump(mode="json")
    trained = RunFolder(run.path).training().fingerprint
    analyse(run, fingerprint=trained, inference=inference)
    assert RunFolder(run.path, wanted).alignment().correct == 70
    analyse(run, fingerprint=trained, inference={**inference, "nms_iou": 0.5})
    with pytest.raises(UserError, match=r"nms_iou: 0.5 -> 0.6.*tood analyse"):
        RunFolder(run.path, wanted).alignment()
    analyse(run, fingerprint="0" * 16, inference=inference)
    with pytest.raises(UserError, match="trained again since"):
        RunFolder(run.path, wanted).alignment()


def test_panels_share_axes_and_colours() -> None:
    narrow, wide = np.zeros((100, 50), np.int64), np.zeros((100, 50), np.int64)
    narrow[:12, :20], wide[:34, 30:] = 3, 50
    with house_style():
        figure = draw_density({"narrow": narrow, "wide": wide})
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == ["narrow", "wide"]
    norms = [axes.collections[0].norm for axes in panels]
    assert (norms[0].vmin, norms[0].vmax) == (norms[1].vmin, norms[1].vmax)
    assert {axes.get_xlim() for axes in panels} == {(0, 0.4)}
    heights = panels[1].lines[-1].get_ydata()
    assert heights == pytest.approx(np.full(34, 0.8)), "the mean of IoU 0.6 to 1"


def test_report_and_figures_come_and_go_with_the_analysis(
    make_table: Callable[..., AlignmentTable], tmp_path: Path
) -> None:
    table = make_table({}, seeds=2)
    comparison = compare(table.study, resamples=20)
    figures = draw_alignment_figures(table, tmp_path / "figures")
    assert [figure.path.name for figure in figures] == ["alignment_density.png", "alignment_anchors.png"]
    for figure in figures:
        with Image.open(figure.path) as picture:
            assert min(picture.size) > 300
    path = tmp_path / "report.html"
    write_report(comparison, [], path, alignment=table, alignment_figures=figures)
    page = html.unescape(path.read_text())
    assert page.count('src="data:image/png;base64,') == 2
    for text in (
        "Alignment of score and IoU",
        '<td class="best">30 ± 0</td>',
        *TERMS.values(),
        *(figure.caption for figure in figures),
    ):
        assert text in page
    write_report(comparison, [], path)
    assert "Alignment of score and IoU" not in path.read_text()
    write_alignment_tables(table, tmp_path)
    write_alignment_tables(None, tmp_path)
    assert draw_alignment_figures(None, tmp_path / "figures") == []
    assert not [*tmp_path.glob("alignment.*"), *(tmp_path / "figures").iterdir()]


def test_mirror_has_the_numbers_of_the_present_model(make_study: Make) -> None:
    study = make_study(rows={"tood": ("tood", 0.8)}, images=6)
    run = study.rows[0].runs[0]
    analyse(run)
    (mirrored,) = mirrored_runs("cells", run_folders(run.path.parent))
    values = {point.key: point.value for point in mirrored.points}
    assert values["alignment/pcc_top50"] == 0.4
    assert values["alignment/error"] == 40
    assert "alignment.json" in mirrored.artifact_paths()
    analyse(run, fingerprint="of an earlier training")
    (mirrored,) = mirrored_runs("cells", run_folders(run.path.parent))
    assert not [point for point in mirrored.points if point.key.startswith("alignment")]
