"""Score thresholds: counted as by hand, chosen on pictures that have no part in what is reported."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from tood.data.box_drawing import SHOWN_SCORE
from tood.data.split_table import SplitTable
from tood.evaluation.coco_metrics import RECALLS, evaluate_detections
from tood.evaluation.error_kinds import DetectionErrors, find_errors
from tood.evaluation.outputs import precision_recall_table
from tood.evaluation.score_thresholds import (
    THRESHOLDS,
    ThresholdCounts,
    counts_of_classes,
    counts_of_resamples,
    of_class,
    reliability,
    sum_of_classes,
)
from tood.evaluation.significance import draw_weights
from tood.evaluation.threshold_file import HALVES, NAME, SplitErrors, read_thresholds, write_thresholds
from tood.io.errors import UserError
from tood.verbs.chosen_threshold import chosen_threshold

MakeScene = Callable[..., Any]


def errors_of(make_scene: MakeScene, seed: int = 0, images: int = 40) -> tuple[SplitTable, DetectionErrors]:
    scene = make_scene(seed, images=images)
    return scene.table, find_errors(scene.table, scene.detections)


def test_counts_are_those_by_hand(make_scene: MakeScene) -> None:
    table, errors = errors_of(make_scene)
    counts = counts_of_classes(errors, len(table.classes))
    for label in range(len(table.classes)):
        for place in (0, 25, 50, 77, 100):
            kept = errors.counted & (errors.found.labels == label) & (errors.found.scores >= THRESHOLDS[place] - 1e-12)
            assert counts.right[place, label] == (kept & errors.correct).sum()
            assert counts.wrong[place, label] == (kept & ~errors.correct).sum()
        assert counts.objects[label] == ((errors.objects.labels == label) & ~errors.objects.crowd).sum()
    every = sum_of_classes(counts)
    assert every.right[0] + every.wrong[0] == errors.counted.sum()


def test_precision_is_that_of_scikit_learn(make_scene: MakeScene) -> None:
    table, errors = errors_of(make_scene, seed=2)
    every = sum_of_classes(counts_of_classes(errors, len(table.classes)))
    precision, _, at = precision_recall_curve(errors.correct[errors.counted], errors.found.scores[errors.counted])
    for place in (10, 40, 60):
        first = int(np.searchsorted(at, THRESHOLDS[place]))
        assert every.precision[place] == pytest.approx(precision[first])


def test_the_best_threshold_has_the_largest_f1(make_scene: MakeScene) -> None:
    table, errors = errors_of(make_scene)
    every = sum_of_classes(counts_of_classes(errors, len(table.classes)))
    best = every.best()
    assert best is not None
    found = every.at(best)
    assert found.f1 == np.nanmax(every.f1)
    assert found.f1 == pytest.approx(2 * found.precision * found.recall / (found.precision + found.recall))


def test_a_plateau_is_cut_in_its_middle() -> None:
    right = np.where(np.round(THRESHOLDS, 2) <= 0.8, 4.0, 0.0)
    wrong = np.where(np.round(THRESHOLDS, 2) <= 0.3, 4.0, 0.0)
    assert ThresholdCounts(right, wrong, np.array(4.0)).best() == pytest.approx(0.56)


def test_wishes_take_the_threshold_that_gives_away_least() -> None:
    right, wrong = 10 * (1 - THRESHOLDS), 10 * (1 - THRESHOLDS) ** 3
    counts = ThresholdCounts(right, wrong, np.array(10.0))
    precise, complete = counts.reaching(precision=0.8), counts.reaching(recall=0.6)
    assert precise == pytest.approx(0.5)
    assert complete == pytest.approx(0.4)
    assert counts.reaching(recall=1.1) is None


def test_resampled_counts_with_every_image_once_are_the_counts(make_scene: MakeScene) -> None:
    table, errors = errors_of(make_scene)
    once = counts_of_resamples(errors, np.ones((len(table.image_ids), 1), np.int32))
    every = sum_of_classes(counts_of_classes(errors, len(table.classes)))
    np.testing.assert_allclose(once.f1[:, 0], every.f1)
    assert np.nanstd(counts_of_resamples(errors, draw_weights(40, 30)).f1[30]) > 0


def test_scores_that_are_right_as_often_as_they_say_have_no_calibration_error(make_scene: MakeScene) -> None:
    _, errors = errors_of(make_scene, images=60)
    found = reliability(errors)
    assert found.count.sum() == errors.counted.sum()
    assert found.error is not None
    assert 0 < found.error < 1
    perfect = type(found)(found.count, found.scores, found.scores)
    assert perfect.error == 0
    assert (found + found).error == pytest.approx(found.error)


@pytest.mark.parametrize("watched", [True, False])
def test_the_file_says_what_was_chosen_and_what_it_gives_elsewhere(
    make_scene: MakeScene, tmp_path: Path, watched: bool
) -> None:
    table, errors = errors_of(make_scene, seed=1)
    _, others = errors_of(make_scene, seed=2)
    names = table.classes
    scored = SplitErrors("test", 40, errors)
    write_thresholds(tmp_path, scored, SplitErrors("val", 40, others) if watched else None, names, "f" * 16)
    stored = read_thresholds(tmp_path / NAME)
    assert stored is not None
    assert stored.overall is not None
    assert stored.chosen_on == ("val" if watched else HALVES)
    chosen_by = sum_of_classes(counts_of_classes(others if watched else errors, len(names)))
    assert stored.overall.chosen.threshold == chosen_by.best()
    assert stored.counts().at(0.4) == chosen_by.at(0.4)
    assert stored.overall.reported is not None
    if watched:
        given = sum_of_classes(counts_of_classes(errors, len(names))).at(stored.overall.chosen.threshold)
        assert stored.overall.reported.f1 == given.f1
    else:
        best = sum_of_classes(counts_of_classes(errors, len(names))).at(stored.overall.chosen.threshold)
        assert stored.overall.reported.f1 <= best.f1, "what is chosen on the same pictures flatters"
    assert set(stored.classes) == set(names)


def test_predict_takes_numbers_the_best_and_wishes(
    make_scene: MakeScene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    weights = tmp_path / "model.pt"
    assert chosen_threshold(None, weights) == SHOWN_SCORE
    assert "no best threshold is known" in caplog.text
    assert chosen_threshold("0.42", weights) == 0.42
    for wrong in ("1.5", "good", "precision=2", "f1=0.5"):
        with pytest.raises(UserError, match="must be a number from 0 to 1"):
            chosen_threshold(wrong, weights)
    with pytest.raises(UserError, match=r"thresholds\.json"):
        chosen_threshold("best", weights)
    table, errors = errors_of(make_scene)
    stored = write_thresholds(tmp_path, SplitErrors("val", 40, errors), None, table.classes, None)
    assert stored.overall is not None
    best = stored.overall.chosen.threshold
    assert chosen_threshold(None, weights) == chosen_threshold("best", weights) == best
    assert f"threshold {best:g}, the one of best F1 on val" in caplog.text
    reached = chosen_threshold("recall=0.3", weights)
    assert stored.counts().at(reached).recall >= 0.3
    with pytest.raises(UserError, match="no threshold reaches"):
        chosen_threshold("recall=1", weights)
    (tmp_path / NAME).write_text(json.dumps({"chosen_on": 3}))
    with pytest.raises(UserError, match=rf"{NAME}.*tood evaluate"):
        chosen_threshold("best", weights)


def test_the_curves_have_the_score_at_which_each_recall_is_reached(make_scene: MakeScene) -> None:
    scene = make_scene(4, images=40)
    result = evaluate_detections(scene.table, scene.detections)
    curves = precision_recall_table(result)
    errors = find_errors(scene.table, scene.detections)
    counts = counts_of_classes(errors, len(scene.table.classes))
    for label, name in enumerate(scene.table.classes):
        curve = curves[curves["class"] == name]
        assert (np.diff(curve["score"]) <= 1e-9).all()
        assert ((curve["score"] == 0) == (curve["precision"] == 0)).all()
        hits = np.sort(errors.found.scores[errors.correct & (errors.found.labels == label)])[::-1]
        objects = of_class(counts, label).objects
        for recall, score in zip(RECALLS[1:], curve["score"].to_numpy()[1:], strict=True):
            needed = int(np.ceil(recall * objects - 1e-9))
            assert score == pytest.approx(hits[needed - 1] if needed <= len(hits) else 0.0, abs=1e-6)
