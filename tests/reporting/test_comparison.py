"""The comparison says what the runs' files say, with paired intervals, and refuses files that disagree."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from tood.config.study import load_study
from tood.data.prepared import PreparedSplit
from tood.evaluation.coco_metrics import match_detections
from tood.evaluation.significance import default_resamples, draw_weights, resampled_ap
from tood.evaluation.simultaneous import t_quantile
from tood.io.errors import UserError
from tood.io.write import write_json, write_yaml
from tood.reporting import resampling
from tood.reporting.comparison import ComparisonStudy, compare, comparison_study
from tood.reporting.table_files import marked_rows, write_tables
from tood.reporting.wording import headline, unlike_note

MakeStudy = Callable[..., ComparisonStudy]


def edit(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text()), **changes})


def test_numbers_are_those_of_the_metrics_files(make_study: MakeStudy) -> None:
    study = make_study()
    result = compare(study, resamples=200)
    assert [row.name for row in result.rows] == ["atss", "gfl", "tood"]
    for row in result.rows:
        metrics = row.row.runs[0].metrics()
        assert row.stats["AP"] == metrics.AP
        assert row.stats["APl"] == metrics.APl
        assert row.interval is not None
        assert row.interval.low < row.ap < row.interval.high
        assert set(row.std.values()) == {None}
    assert result.best().name == "tood"
    assert result.row("atss").delta is None


def test_intervals_come_from_the_same_resamples_of_images(make_study: MakeStudy) -> None:
    study = make_study()
    result = compare(study, resamples=300, seed=5)
    weights = draw_weights(result.images, 300, seed=5)
    resampled = {
        row.name: resampled_ap(match_detections(study.table, row.runs[0].detections()), weights) for row in study.rows
    }
    delta = result.row("tood").delta
    assert delta is not None
    images = result.images
    half = t_quantile(0.95, images - 1) * (resampled["tood"] - resampled["atss"]).std(ddof=1)
    half *= np.sqrt(images / (images - 1))
    assert delta.interval.low == pytest.approx(delta.value - half)
    assert delta.interval.high == pytest.approx(delta.value + half)
    assert delta.value == pytest.approx(result.row("tood").ap - result.row("atss").ap)


def test_seeds_are_averaged_and_their_spread_is_given(make_study: MakeStudy) -> None:
    study = make_study(rows={"atss": ("atss", 0.5), "tood": ("tood", 0.8)}, seeds=3, images=15)
    result = compare(study, resamples=100)
    row = result.row("tood")
    values = [run.metrics().AP for run in row.row.runs]
    assert len(set(values)) == 3
    assert row.ap == pytest.approx(np.mean(values))
    for name in ("AP", "AP50", "AP75"):
        each = [getattr(run.metrics(), name) for run in row.row.runs]
        assert row.std[name] == pytest.approx(np.std(each, ddof=1))
    assert row.seeds == 3
    assert row.images_per_second == pytest.approx(42.0)


def test_identical_rows_differ_by_exactly_nothing(make_study: MakeStudy) -> None:
    study = make_study()
    twin = replace(study.rows[0], name="twin")
    result = compare(replace(study, rows=(study.rows[0], twin)), resamples=100)
    delta = result.row("twin").delta
    assert delta is not None
    assert (delta.value, delta.interval.low, delta.interval.high) == (0, 0, 0)
    assert not delta.estimate.clear
    assert result.runs_to_decide(result.row("twin")) is None


ONE_RUN_WORDS = ("lead", "best", "beat", "clear", "above", "excludes", "better", "worse")


@pytest.mark.parametrize("baseline", ["atss", "tood"])
def test_one_run_a_row_ranks_nothing(make_study: MakeStudy, baseline: str) -> None:
    result = compare(make_study(baseline=baseline), resamples=200)
    assert not result.ranks
    assert result.leaders() == ()
    text = headline(result).lower()
    assert not [word for word in ONE_RUN_WORDS if word in text]
    assert "three seeds" in text
    for row in result.rows:
        assert not result.is_clear(row)
        if row.delta is not None:
            assert row.delta.estimate.simultaneous is None
            assert row.delta.estimate.break_even_seed_sd is not None


def test_several_runs_a_row_rank_methods_that_differ_clearly(make_study: MakeStudy) -> None:
    rows = {"atss": ("atss", 0.4), "gfl": ("gfl", 0.4), "tood": ("tood", 0.9)}
    result = compare(make_study(rows=rows, seeds=3, images=40), resamples=200)
    assert result.ranks
    assert [row.name for row in result.leaders()] == ["tood"]
    assert [result.is_clear(row) for row in result.rows] == [False, False, True]
    text = headline(result)
    assert text.startswith("Best of 3: tood with AP")
    assert "clearly above every other row" in text
    estimate = result.row("tood").delta.estimate
    assert estimate.simultaneous.low < estimate.interval.low < estimate.value < estimate.interval.high
    runs = result.runs_to_decide(result.row("gfl"))
    assert runs is None or runs > 3


def test_rows_that_cannot_be_told_apart_share_the_lead(make_study: MakeStudy) -> None:
    rows = {"atss": ("atss", 0.3), "gfl": ("gfl", 0.8), "tood": ("tood", 0.8)}
    result = compare(make_study(rows=rows, seeds=3, images=40), resamples=200)
    assert sorted(row.name for row in result.leaders()) == ["gfl", "tood"]
    assert "not told apart from" in headline(result)


def test_where_all_rows_share_the_lead_none_is_marked(make_study: MakeStudy) -> None:
    same = compare(make_study(rows=dict.fromkeys("ab", ("atss", 0.6)), seeds=3, baseline="a"), resamples=200)
    assert len(same.leaders()) == 2
    assert headline(same).startswith("No row can be told apart")
    assert not marked_rows(same)


def test_a_row_that_still_rises_keeps_the_table_from_ranking(make_study: MakeStudy) -> None:
    study = make_study(rows={"atss": ("atss", 0.4), "tood": ("tood", 0.9)}, seeds=2, images=30)
    for run in study.rows[0].runs:
        history = pd.read_csv(run.path / "history.csv")
        measured = history["val_AP"].notna()
        history.loc[measured, "val_AP"] = 0.9 * history.loc[measured, "step"] / history["step"].max()
        history.to_csv(run.path / "history.csv", index=False)
    result = compare(study, resamples=100)
    assert result.row("atss").rising
    assert not result.row("tood").rising
    assert not result.ranks
    assert not result.is_clear(result.row("tood"))
    assert headline(result).startswith("No ranking of methods")
    assert "atss" in headline(result)


def test_a_row_with_one_run_among_rows_with_several_decides_nothing(make_study: MakeStudy) -> None:
    study = make_study(rows={"atss": ("atss", 0.4), "tood": ("tood", 0.9)}, seeds=2, images=30)
    study = replace(study, rows=(study.rows[0], replace(study.rows[1], runs=study.rows[1].runs[:1])))
    result = compare(study, resamples=100)
    assert not result.ranks
    assert not result.is_clear(result.row("tood"))
    assert "One run of tood decides nothing" in headline(result)


def test_what_else_differs_from_the_baseline_is_named(make_study: MakeStudy) -> None:
    study = make_study(images=6)
    path = study.rows[2].runs[0].path
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["schedule"]["lr"] = 0.02
    write_yaml(path / "config.yaml", config)
    edit(path / "train.json", steps=960)
    result = compare(study, resamples=20)
    assert result.row("tood").unlike == ("steps: 480 -> 960", "schedule.lr: 0.01 -> 0.02")
    assert result.row("gfl").unlike == ()
    assert "schedule.lr: 0.01 -> 0.02" in unlike_note(result)


@pytest.mark.parametrize("both", [False, True])
def test_what_an_early_version_did_not_record_is_no_difference(make_study: MakeStudy, both: bool) -> None:
    study = make_study(images=6)
    for row, steps in ((study.rows[2], 960), *([(study.rows[0], 480)] if both else [])):
        path = row.runs[0].path / "config.yaml"
        write_yaml(path, {**yaml.safe_load(path.read_text()), "fitted": {"steps": steps}})
    assert compare(study, resamples=20).row("tood").unlike == (("fitted.steps: 480 -> 960",) if both else ())


def test_a_single_row_has_nothing_to_be_compared_with(make_study: MakeStudy) -> None:
    result = compare(make_study(rows={"atss": ("atss", 0.5)}), resamples=50)
    assert not result.with_best
    assert "nothing to compare" in headline(result)


def test_split_without_objects_has_no_ap(make_study: MakeStudy) -> None:
    study = make_study()
    content = json.loads(study.split.annotations.read_text())
    study.split.annotations.write_text(json.dumps({**content, "annotations": []}))
    for row in study.rows:
        nothing = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl"))
        edit(row.runs[0].path / "metrics.json", **nothing)
    result = compare(study, resamples=50)
    assert [row.stats["AP"] for row in result.rows] == [None] * 3
    assert "No AP is defined" in headline(result)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("metrics.json", {"split": "test"}, "measured on split 'test'"),
        ("metrics.json", {"AP": 0.9}, "evaluate the run again"),
        ("metrics.json", {"AP": "high"}, "field 'AP'"),
        ("train.json", {"seconds": None}, "field 'seconds'"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    make_study: MakeStudy, file: str, changes: dict[str, Any], message: str
) -> None:
    study = make_study()
    path = study.rows[1].runs[0].path / file
    edit(path, **changes)
    with pytest.raises(UserError, match=message) as caught:
        compare(study, resamples=20)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("file", ["metrics.json", "detections.json", "train.json"])
def test_missing_files_are_named(make_study: MakeStudy, file: str) -> None:
    study = make_study()
    path = study.rows[1].runs[0].path / file
    path.unlink()
    with pytest.raises(UserError, match="no such file") as caught:
        compare(study, resamples=20)
    assert str(path) in str(caught.value)


def write_study(params: Path, width: int = 64) -> None:
    blocks = {
        "datasets/cells": "format: voc\nroot: /nowhere\ndraw: {val: 0.2}\n",
        "methods/atss": ("head: {kind: parallel, boxes: delta, centerness: true}\ncriterion: {kind: focal}\n"),
        "backbones/r18": "kind: resnet18\n",
        "schedules/short": "epochs: 2\nmilestones: [1]\n",
        "studies/two": (
            "title: Two\ndataset: cells\nbaseline: plain\n"
            "common: {method: atss, backbone: r18, schedule: short}\n"
            "runs:\n"
            "  plain_0: {row: plain}\n"
            f"  wide: {{overrides: {{backbone: {{width: {width}}}}}}}\n"
            "  plain_1: {row: plain, seed: 1}\n"
        ),
    }
    for name, text in blocks.items():
        path = params / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_study_file_becomes_rows_of_seeds(tmp_path: Path) -> None:
    write_study(tmp_path)
    split = PreparedSplit("val", tmp_path / "val.json", tmp_path / "images", 3, 4, "0")
    study = comparison_study(load_study("two", tmp_path), Path("results/two"), split)
    assert [(row.name, [run.name for run in row.runs]) for row in study.rows] == [
        ("plain", ["plain_0", "plain_1"]),
        ("wide", ["wide"]),
    ]
    assert study.rows[0].method == "atss"
    assert study.baseline == "plain"
    assert study.rows[1].runs[0].path == Path("results/two/wide")


def as_composed(make_study: MakeStudy, params: Path) -> ComparisonStudy:
    """The files of three runs that were trained as the study file in ``params`` says."""
    made = make_study(rows={"plain_0": ("atss", 0.5), "plain_1": ("atss", 0.6), "wide": ("atss", 0.7)}, images=6)
    composed = load_study("two", params)
    for name, config in composed.runs.items():
        folder = made.rows[0].runs[0].path.parent / name
        write_yaml(folder / "config.yaml", config.model_dump(mode="json"))
        edit(folder / "train.json", fingerprint=config.fingerprint)
    return comparison_study(composed, made.rows[0].runs[0].path.parent, made.split)


def test_runs_trained_with_the_settings_of_the_study_are_compared(make_study: MakeStudy, tmp_path: Path) -> None:
    write_study(tmp_path / "params")
    result = compare(as_composed(make_study, tmp_path / "params"), resamples=20)
    assert [row.seeds for row in result.rows] == [2, 1]


def test_a_run_trained_with_older_settings_is_refused_and_the_difference_named(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    write_study(tmp_path / "params")
    trained = as_composed(make_study, tmp_path / "params")
    folder = trained.rows[1].runs[0].path.parent
    write_study(tmp_path / "params", width=32)
    study = comparison_study(load_study("two", tmp_path / "params"), folder, trained.split)
    with pytest.raises(UserError) as caught:
        compare(study, resamples=20)
    text = str(caught.value)
    assert "run 'wide'" in text
    assert "(backbone.width: 64 -> 32)" in text
    assert f"tood train --run {folder / 'wide'}" in text
    assert "\n" not in text


def test_numbers_of_an_earlier_training_are_refused(make_study: MakeStudy, tmp_path: Path) -> None:
    write_study(tmp_path / "params")
    study = as_composed(make_study, tmp_path / "params")
    edit(study.rows[1].runs[0].path / "metrics.json", fingerprint="0" * 16)
    with pytest.raises(UserError, match=r"run 'wide'.*trained again since.*tood evaluate"):
        compare(study, resamples=20)


def test_a_prepared_split_is_read_from_its_flat_file_alone(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(images=6)
    expected = compare(study, resamples=20)
    study.table.write_flat(tmp_path / "val.npz")
    study.split.annotations.unlink()
    found = compare(replace(study, split=replace(study.split, table=tmp_path / "val.npz")), resamples=20)
    assert found.objects == expected.objects
    assert [(row.name, row.stats, row.interval, row.delta) for row in found.rows] == [
        (row.name, row.stats, row.interval, row.delta) for row in expected.rows
    ]


def test_another_split_is_named_everywhere(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(rows={"atss": ("atss", 0.5)}, images=4)
    study = replace(study, split=replace(study.split, name="test"))
    edit(study.rows[0].runs[0].path / "metrics.json", split="test")
    result = compare(study, resamples=20)
    write_tables(result, tmp_path)
    texts = [(tmp_path / f"comparison.{kind}").read_text() for kind in ("md", "tex")]
    assert set(pd.read_csv(tmp_path / "comparison.csv")["split"]) == {"test"}
    for text in [*texts, headline(result)]:
        assert "val" not in text.replace("interval", "").replace("Interval", "").replace("values", "")
    assert all("Split test of cells" in text for text in texts)


def test_a_large_split_is_resampled_less_but_enough() -> None:
    assert (default_resamples(2000), default_resamples(5000)) == (2000, 1000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inference": {"nms_iou": 0.5}}, r"nms_iou: 0\.5 -> 0\.6"),
        ({"fingerprint": "0" * 16}, "trained again since"),
    ],
)
def test_an_evaluation_with_older_settings_is_refused(
    make_study: MakeStudy, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_study(tmp_path / "params")
    study = as_composed(make_study, tmp_path / "params")
    run = study.rows[1].runs[0]
    assert run.wanted is not None
    kept: dict[str, Any] = {
        "fingerprint": run.wanted.fingerprint,
        "inference": run.wanted.method.inference.model_dump(),
    }
    edit(run.path / "metrics.json", **kept)
    compare(study, resamples=20)
    inference = {**kept["inference"], **changes.get("inference", {})}
    edit(run.path / "metrics.json", **{**kept, **changes, "inference": inference})
    with pytest.raises(UserError, match=f"run 'wide'.*{message}.*tood evaluate"):
        compare(study, resamples=20)


def test_several_processes_find_the_same(make_study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(seeds=2)
    alone = compare(study, resamples=50)
    monkeypatch.setattr(resampling, "_MANY_IMAGES", 1)
    together = compare(study, resamples=50, processes=2)
    assert [(row.name, row.interval, row.delta) for row in together.rows] == [
        (row.name, row.interval, row.delta) for row in alone.rows
    ]


def test_a_killed_process_and_a_refusal_in_one_are_sentences(
    make_study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study()
    monkeypatch.setattr(resampling, "_MANY_IMAGES", 1)
    broken = study.rows[1].runs[0].path / "detections.json"
    broken.write_text("[{}]")
    with pytest.raises(UserError, match=r"detections\.json: entry 0 needs image_id"):
        compare(study, resamples=5, processes=2)
    monkeypatch.setattr(resampling, "match_detections", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match="was killed, probably for lack of memory"):
        compare(study, resamples=5, processes=2)
