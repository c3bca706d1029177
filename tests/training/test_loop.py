"""Training on a tiny generated set: it learns, is repeatable, continues after a kill, and splits over processes."""

import csv
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml
from tiny_run import SCHEDULE, command, history, tood, train, wait_for, weights, workers_in

from tood.training.checkpoint import CheckpointStore
from tood.training.history import History


@pytest.mark.parametrize("run", ["atss", "gfl", "tood", "paa", "free_anchor"])
def test_a_run_trains_evaluates_and_leaves_its_files(project: Path, run: str) -> None:
    said = train(project, run)
    assert "3 epochs x 6 steps of 4 images" in said
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
def test_a_killed_run_continues_to_the_same_weights(project: Path, run: str) -> None:
    """TOOD has phases, NoisyAnchor divides by a mean over all steps so far."""
    train(project, run)
    whole, rows = weights(project, run), history(project, run)
    shutil.rmtree(project / "results")
    process = subprocess.Popen(
        command("train", "--run", f"results/tiny/{run}", "--gpu", "0", "--threads", "1"),
        cwd=project,
        stdout=subprocess.DEVNULL,
    )
    state = project / f"results/tiny/{run}/state"
    deadline = time.monotonic() + 60
    while not list(state.glob("*/step-*.pt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(state.glob("*/step-*.pt")), "the run ended before it could be killed"
    said = train(project, run)
    assert "continues after step" in said
    assert history(project, run) == rows
    continued = weights(project, run)
    assert whole.keys() == continued.keys()
    assert all(torch.equal(whole[key], continued[key]) for key in whole)


def test_a_finished_run_whose_files_were_deleted_is_written_again_without_training(project: Path) -> None:
    train(project, "atss")
    whole = weights(project, "atss")
    (project / "results/tiny/atss/model.pt").unlink()
    said = train(project, "atss")
    assert "continues after step 18 of 18" in said
    again = weights(project, "atss")
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_no_worker_outlives_its_launcher(project: Path) -> None:
    path = project / "params/schedules/tiny.yaml"
    path.write_text(yaml.safe_dump({**SCHEDULE, "epochs": 500}))
    arguments = ("train", "--run", "results/tiny/atss", "--gpu", "0", "--processes", "2")
    launcher = subprocess.Popen(command(*arguments), cwd=project, stdout=subprocess.DEVNULL)
    state = project / "results/tiny/atss/state"
    wait_for(lambda: bool(list(state.glob("*/step-*.pt"))))
    launcher.kill()
    launcher.wait()
    wait_for(lambda: not workers_in(project))


def test_loader_workers_change_nothing(project: Path) -> None:
    train(project, "atss")
    alone = weights(project, "atss")
    shutil.rmtree(project / "results")
    train(project, "atss", "--workers", "2")
    helped = weights(project, "atss")
    assert all(torch.equal(alone[key], helped[key]) for key in alone)


@pytest.mark.parametrize(("run", "parts"), [("atss", 1), ("tood", 2)])
def test_two_processes_train_what_one_trains(project: Path, run: str, parts: int) -> None:
    train(project, run)
    one = history(project, run)
    shutil.rmtree(project / "results")
    said = train(project, run, "--processes", "2", "--accumulate", str(parts))
    assert "2 x " in said
    assert ("steps of 4 images in 2 parts" in said) == (parts == 2)
    two = history(project, run)
    assert [float(row["loss"]) for row in two[:6]] == pytest.approx([float(row["loss"]) for row in one[:6]], rel=1e-3)


def test_a_training_that_continues_with_other_code_says_so(project: Path) -> None:
    train(project, "atss")
    (project / "results/tiny/atss/model.pt").unlink()
    (state,) = (project / "results/tiny/atss/state").glob("*/")
    store = CheckpointStore(state.parent, state.name)
    store.files()[0].unlink()
    kept = store.load(pytest.fail)
    store.save(kept["step"], {**kept, "code": "of yesterday"})
    assert "continues after step 16 of 18, with code that changed since\n" in train(project, "atss")


def test_a_changed_parameter_starts_anew_and_says_what_changed(project: Path) -> None:
    process = subprocess.Popen(
        command("train", "--run", "results/tiny/atss", "--gpu", "0", "--threads", "1"),
        cwd=project,
        stdout=subprocess.DEVNULL,
    )
    state = project / "results/tiny/atss/state"
    deadline = time.monotonic() + 60
    while not list(state.glob("*/step-*.pt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    path = project / "params/schedules/tiny.yaml"
    path.write_text(yaml.safe_dump({**SCHEDULE, "lr": 0.02}))
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


def test_a_method_that_ranks_a_whole_batch_refuses_parts_of_it(project: Path) -> None:
    said = tood(project, "train", "--run", "results/tiny/pisa", "--gpu", "0", "--accumulate", "2", status=2)
    assert said == (
        "tood: --accumulate 2: criterion.kind 'pisa' of run 'pisa' compares all images that a process computes "
        "together, so parts would change the result; use 1.\n"
    )


def test_a_loss_that_explodes_stops_the_run_with_a_sentence(project: Path) -> None:
    path = project / "params/schedules/tiny.yaml"
    path.write_text(yaml.safe_dump({**SCHEDULE, "lr": 1e12, "grad_clip": None, "warmup": {"iterations": 0}}))
    said = train(project, "atss", status=2)
    assert "the loss or its gradient is no longer finite at step" in said
    assert not (project / "results/tiny/atss/model.pt").exists()


def test_an_error_in_a_worker_process_is_the_same_sentence(project: Path) -> None:
    path = project / "params/schedules/tiny.yaml"
    path.write_text(yaml.safe_dump({**SCHEDULE, "lr": 1e12, "grad_clip": None, "warmup": {"iterations": 0}}))
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
