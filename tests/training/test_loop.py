"""Training on a tiny generated set: it learns, is repeatable, continues after a kill, and splits over processes."""

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_run import (
    EIGHT,
    EXPLODES,
    checkpoints,
    history,
    interrupt,
    reschedule,
    start,
    tood,
    train,
    wait_for,
    weights,
    workers_in,
)

from tood.mlflow_mirror.entries import run_folders
from tood.reporting.run_folder import RunFolder
from tood.reporting.system_file import read_system
from tood.training.checkpoint import CheckpointStore
from tood.training.history import History

Trained = Callable[..., Path]


@pytest.mark.parametrize("run", ["atss", "gfl", "tood", "paa", "free_anchor"])
def test_a_run_trains_evaluates_and_leaves_its_files(project: Path, trained: Trained, run: str) -> None:
    said = (trained(run) / "said.txt").read_text()
    assert re.search(
        r"\A.*24 images( \(\d+ as background\))?, \d+ objects\n(.*\n)*.*3 epochs x 6 steps of 4 images", said
    )
    shutil.copytree(trained(run) / "results", project / "results")
    folder = project / "results/tiny" / run
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "history.csv", "model.pt", "train.json", "state"}
    rows = history(project, run)
    assert [int(row["step"]) for row in rows] == list(range(1, 19))
    losses = [float(row["loss"]) for row in rows]
    assert sum(losses[12:]) < sum(losses[:6]), "the last epoch against the first"
    assert rows[-1]["val_AP50"] != ""
    tood(project, "evaluate", "--run", f"results/tiny/{run}", "--gpu", "0", "--threads", "1")
    assert not list((folder / "state").glob("*/step-*.pt")), "an evaluated run needs no resume state"
    assert {"metrics.json", "detections.json", "pr.csv", "samples"} <= {path.name for path in folder.iterdir()}
    assert "is trained already" in train(project, run)


@pytest.mark.parametrize("run", ["tood", "noisy"])
def test_a_killed_run_continues_to_the_same_weights(project: Path, trained: Trained, run: str) -> None:
    """TOOD has phases, NoisyAnchor divides by a mean over all steps so far."""
    undisturbed = trained(run)
    interrupt(project, run)
    assert "continues after step" in train(project, run)
    assert history(project, run) == history(undisturbed, run)
    assert_same_weights(project, undisturbed, run)


def test_a_training_under_way_can_be_followed(project: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configuration lies beside its history; with the load of the machine written it is the same training."""
    undisturbed = trained("tood")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    interrupt(project, "tood")
    folder = project / "results/tiny/tood"
    assert {"config.yaml", "history.csv", "system.csv", "state"} <= {path.name for path in folder.iterdir()}
    (running,) = run_folders(folder.parent)
    assert running.resolved().fingerprint == RunFolder(undisturbed / "results/tiny/tood").training().fingerprint
    config, rows = running.config(), len(list(read_system(folder / "system.csv")))
    train(project, "tood")
    assert len(list(read_system(folder / "system.csv"))) > rows
    assert history(project, "tood") == history(undisturbed, "tood")
    assert_same_weights(project, undisturbed, "tood")
    assert RunFolder(folder).config() == config


def assert_same_weights(one: Path, other: Path, run: str) -> None:
    ours, theirs = weights(one, run), weights(other, run)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_finished_run_whose_files_were_deleted_is_written_again_without_training(
    finished: Path, trained: Trained
) -> None:
    (finished / "results/tiny/atss/model.pt").unlink()
    assert "continues after step 18 of 18" in train(finished, "atss")
    assert_same_weights(finished, trained("atss"), "atss")


@pytest.mark.long
def test_no_worker_outlives_its_launcher(project: Path) -> None:
    reschedule(project, epochs=500)
    launcher = start(project, "atss", "--processes", "2")
    wait_for(lambda: bool(checkpoints(project)))
    launcher.kill()
    wait_for(lambda: not workers_in(project))


def test_loader_workers_change_nothing(project: Path, trained: Trained) -> None:
    train(project, "atss", "--workers", "2")
    assert_same_weights(project, trained("atss"), "atss")


@pytest.mark.long
@pytest.mark.parametrize(("run", "parts"), [("atss", 1), ("tood", 2)])
def test_two_processes_train_what_one_trains(trained: Trained, run: str, parts: int) -> None:
    divided = ("--accumulate", str(parts)) if parts > 1 else ()
    alone = trained(run, "--processes", "1", **EIGHT)
    together = trained(run, "--processes", "2", *divided, **EIGHT)
    said = (together / "said.txt").read_text()
    assert "2 x " in said
    assert ("steps of 4 images in 2 parts" in said) == (parts == 2)
    one, two = history(alone, run), history(together, run)
    assert [float(row["loss"]) for row in two[:6]] == pytest.approx([float(row["loss"]) for row in one[:6]], rel=1e-3)


def test_a_training_that_continues_with_other_code_says_so(finished: Path) -> None:
    (finished / "results/tiny/atss/model.pt").unlink()
    (state,) = (finished / "results/tiny/atss/state").glob("*/")
    store = CheckpointStore(state.parent, state.name)
    store.files()[0].unlink()
    kept = store.load()
    store.save(kept["step"], {**kept, "code": "of yesterday"})
    assert "continues after step 16 of 18, with code that changed since\n" in train(finished, "atss")


def test_a_changed_parameter_starts_anew_and_says_what_changed(project: Path) -> None:
    interrupt(project, "atss")
    reschedule(project, lr=0.02)
    said = train(project, "atss")
    assert "starts anew" in said
    assert "schedule.lr: 0.01 -> 0.02" in said
    assert "continues" not in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--gpu", "9"], "9 asked for but this machine has"),
        (["--gpu", "two"], "must be 'auto' or a whole number"),
        (["--gpu", "0", "--processes", "3"], "cannot be split over 3 processes"),
        (["--gpu", "0", "--accumulate", "3"], "cannot split the 4 images that each process has per step"),
        (["--gpu", "0", "--processes", "2", "--accumulate", "4"], "cannot split the 2 images"),
    ],
)
def test_impossible_machines_are_one_sentence(project: Path, arguments: list[str], sentence: str) -> None:
    said = tood(project, "train", "--run", "results/tiny/atss", *arguments, status=2)
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("divided", [("--accumulate", "2"), ("--processes", "2")])
def test_a_group_whose_images_are_compared_is_computed_at_once(project: Path, divided: tuple[str, str]) -> None:
    said = train(project, "pisa", *divided, status=2)
    assert re.fullmatch(
        r"tood: .*run 'pisa': criterion\.kind 'pisa' .* here 4 \(schedule\.group.* but 2 would .* divides 2\.\n", said
    )


def test_groups_may_be_spread_over_processes(project: Path) -> None:
    reschedule(project, group=2)
    train(project, "pisa", "--processes", "2")
    apart = [float(row["loss"]) for row in history(project, "pisa")]
    shutil.rmtree(project / "results/tiny/pisa")
    train(project, "pisa")
    together = [float(row["loss"]) for row in history(project, "pisa")]
    assert apart[:4] == pytest.approx(together[:4], rel=1e-4), "rounding differs, and grows later"
    assert together[0] != pytest.approx(losses_without_groups(project)[0], rel=1e-3)


def losses_without_groups(project: Path) -> list[float]:
    shutil.rmtree(project / "results/tiny/pisa")
    reschedule(project)
    train(project, "pisa")
    return [float(row["loss"]) for row in history(project, "pisa")]


def test_a_loss_that_explodes_stops_the_run_with_a_sentence(project: Path) -> None:
    reschedule(project, **EXPLODES)
    said = train(project, "atss", status=2)
    assert "the loss or its gradient is no longer finite at step" in said
    assert not (project / "results/tiny/atss/model.pt").exists()


def test_an_error_in_a_worker_process_is_the_same_sentence(project: Path) -> None:
    reschedule(project, **EXPLODES)
    said = train(project, "atss", "--processes", "2", status=2)
    assert "tood: run 'atss': the loss or its gradient is no longer finite at step" in said


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("results/tiny/atsss", "there is no run 'atsss'; did you mean 'atss'?"),
        ("results/tini/atss", "did you mean 'tiny'?"),
        ("elsewhere/tiny/atss", "must be a folder results/<study>/<run>"),
        ("results/tiny", "must be a folder results/<study>/<run>"),
    ],
)
def test_a_wrong_run_is_named(project: Path, folder: str, sentence: str) -> None:
    assert sentence in tood(project, "train", "--run", folder, status=2)


def test_history_keeps_blank_what_a_row_has_not(tmp_path: Path) -> None:
    kept = History()
    kept.add({"step": 1, "epoch": 1, "time": 1.5, "lr": 0.1, "loss": 2.0, "loss_cls": 2.0})
    kept.add({"step": 2, "epoch": 1, "time": 2.5, "lr": 0.1, "loss": 1.0, "loss_cls": 1.0, "val_AP": 0.25})
    kept.write(tmp_path / "history.csv")
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [row["val_AP"] for row in rows] == ["", "0.25"]
    assert [row["step"] for row in rows] == ["1", "2"]
