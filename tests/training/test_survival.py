"""What happens to the process costs time and nothing else: every interruption ends in the same numbers."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
import yaml
from forked_command import ForkedCommand
from tiny_run import (
    EIGHT,
    EXPLODES,
    checkpoints,
    history,
    interrupt,
    listening_at,
    reschedule,
    start,
    tood,
    train,
    wait_for,
    weights,
    workers_in,
)

from tood.detection.detector import INNERMOST, OUTERMOST
from tood.io.errors import StoppedError
from tood.io.read import read_json
from tood.training import trainer
from tood.training.checkpoint import CheckpointStore
from tood.training.processes import stopping
from tood.training.processes.machine import Machine
from tood.training.processes.stopping import StopRequest, end_in_time, stop_requests
from tood.verbs import train as verb
from tood.workflow.code_choice import CodeChoice

RUN = "results/tiny/atss"
Trained = Callable[..., Path]
LeftAlone = Callable[[int], tuple[dict[str, torch.Tensor], list[dict[str, str]]]]


@pytest.fixture
def left_alone(trained: Trained, project: Path) -> LeftAlone:
    """Weights and history of eight epochs that nobody disturbed, by number of processes; ``project`` has them too."""
    reschedule(project, **EIGHT)

    def reference(processes: int) -> tuple[dict[str, torch.Tensor], list[dict[str, str]]]:
        folder = trained("atss", "--processes", str(processes), **EIGHT)
        return weights(folder, "atss"), history(folder, "atss")

    return reference


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def stop_after(steps: int) -> Callable[..., object]:
    """Stands in for signals: the request is there from the given look at it on, which there is one of a step."""

    class Counting(StopRequest):
        looks = 0

        def __bool__(self) -> bool:
            self.looks += 1
            if self.looks == steps:
                self.make(signal.SIGTERM, "SIGTERM")
            return super().__bool__()

    @contextmanager
    def requests(_: Callable[[StopRequest], None]) -> Iterator[StopRequest]:
        yield Counting()

    return requests


@pytest.mark.parametrize("stops", [(1, 6, 17), pytest.param((3, 5, 7, 13), marks=pytest.mark.long)])
def test_stopping_after_any_step_changes_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, stops: tuple[int, ...]
) -> None:
    """Rows of the history cover four steps here, so that most stops are in the middle of one."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(trainer, "_LOG_ROWS", 4)
    folder, machine = Path(RUN), Machine(gpu="0")
    verb.train(folder, machine, 1, CodeChoice(), [])
    whole, rows = weights(project, "atss"), history(project, "atss")
    assert [row["step"] for row in rows] == ["4", "6", "8", "12", "16", "18"]
    for steps in stops:
        shutil.rmtree("results")
        with monkeypatch.context() as patch:
            patch.setattr(verb, "stop_requests", stop_after(steps))
            with pytest.raises(StoppedError, match=f"after step {steps} of 18; repeat the command"):
                verb.train(folder, machine, 1, CodeChoice(), [])
        verb.train(folder, machine, 1, CodeChoice(), [])
        assert history(project, "atss") == rows
        assert same(whole, weights(project, "atss"))


def to_the_command(process: ForkedCommand, _: Path, number: signal.Signals) -> None:
    process.send_signal(number)


def to_its_group(process: ForkedCommand, _: Path, number: signal.Signals) -> None:
    process.send_to_group(number)


def twice(process: ForkedCommand, _: Path, number: signal.Signals) -> None:
    """As ``timeout`` does."""
    process.send_signal(number)
    process.send_to_group(number)


def to_every_process(_: ForkedCommand, project: Path, number: signal.Signals) -> None:
    """As Slurm and systemd do."""
    for pid in workers_in(project):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def test_the_running_divisors_of_groups_are_continued(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reschedule(project, group=2)
    monkeypatch.chdir(project)
    folder, machine = Path("results/tiny/noisy"), Machine(gpu="0")
    verb.train(folder, machine, 1, CodeChoice(), [])
    whole, rows = weights(project, "noisy"), history(project, "noisy")
    shutil.rmtree("results")
    with monkeypatch.context() as patch:
        patch.setattr(verb, "stop_requests", stop_after(7))
        with pytest.raises(StoppedError, match="after step 7 of 18"):
            verb.train(folder, machine, 1, CodeChoice(), [])
    (state,) = (folder / "state").glob("*/")
    kept = CheckpointStore(state.parent, state.name).load()
    assert {name: mean.shape for name, mean in kept["means"].items()} == {"loss_cls": (2,), "loss_bbox": (2,)}
    verb.train(folder, machine, 1, CodeChoice(), [])
    assert [row["loss"] for row in history(project, "noisy")] == [row["loss"] for row in rows]
    assert same(weights(project, "noisy"), whole)


@pytest.mark.parametrize(
    ("number", "send", "more"),
    [
        (signal.SIGTERM, to_its_group, ("--workers", "3")),
        pytest.param(signal.SIGINT, twice, ("--workers", "2"), marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, to_every_process, ("--workers", "2"), marks=pytest.mark.long),
        pytest.param(signal.SIGINT, to_the_command, ("--processes", "2", "--workers", "1"), marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, to_its_group, ("--processes", "2", "--workers", "1"), marks=pytest.mark.long),
        pytest.param(signal.SIGINT, twice, ("--processes", "2", "--workers", "1"), marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, to_every_process, ("--processes", "2", "--workers", "1"), marks=pytest.mark.long),
    ],
)
def test_a_signal_costs_no_digit(
    project: Path,
    left_alone: LeftAlone,
    number: signal.Signals,
    send: Callable[[ForkedCommand, Path, signal.Signals], None],
    more: tuple[str, ...],
) -> None:
    whole, rows = left_alone(2 if "--processes" in more else 1)
    process = start(project, "atss", *more)
    wait_for(lambda: bool(checkpoints(project)))
    send(process, project, number)
    status, said = process.end()
    assert "Traceback" not in said
    assert status == 128 + number, said
    assert "saved" in said
    assert "repeat the command to continue" in said
    assert not (project / RUN / "model.pt").exists(), "the run ended before it could be stopped"
    said = train(project, "atss", *more)
    assert "continues after step" in said
    assert history(project, "atss") == rows
    assert same(whole, weights(project, "atss"))
    assert not workers_in(project)


@pytest.mark.long
def test_the_death_of_one_process_restarts_all_from_the_checkpoint(project: Path, left_alone: LeftAlone) -> None:
    whole, _ = left_alone(2)
    process = start(project, "atss", "--processes", "2")
    wait_for(lambda: bool(checkpoints(project)))
    assert listening_at(project) == {"127.0.0.1"}
    ranks = [pid for pid in workers_in(project) if "RANK=1" in Path(f"/proc/{pid}/environ").read_text().split("\0")]
    os.kill(ranks[0], signal.SIGKILL)
    status, said = process.end()
    assert status == 0, said
    assert "continues after step" in said
    assert same(whole, weights(project, "atss"))


def test_a_training_whose_workflow_is_gone_saves_and_ends(project: Path) -> None:
    reschedule(project, epochs=500)
    workflow = subprocess.Popen(["sleep", "600"])
    orphan = start(project, "atss", TOOD_WORKFLOW=str(workflow.pid))
    wait_for(lambda: bool(checkpoints(project)))
    assert f"process {orphan.pid} is training this run already" in train(project, "atss", status=75)
    workflow.kill()
    workflow.wait()
    repeated = start(project, "atss")  # waits for the orphan instead of refusing, and continues
    status, said = orphan.end()
    assert status == 143
    assert "the workflow that started it is gone" in said
    step = max(int(path.stem.removeprefix("step-")) for path in checkpoints(project))
    assert f"saved after step {step} of 3000" in said
    wait_for(lambda: max(int(path.stem.removeprefix("step-")) for path in checkpoints(project)) > step)
    repeated.send_signal(signal.SIGTERM)
    _, said = repeated.end()
    assert f"continues after step {step} of 3000" in said


def test_a_process_whose_launcher_died_before_it_looked_is_asked_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = subprocess.Popen(["true"])
    launcher.wait()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
    monkeypatch.setenv("TOOD_LAUNCHER", str(launcher.pid))
    with stop_requests(lambda _: None) as stop:
        wait_for(lambda: bool(stop), seconds=10)


def test_a_long_step_does_not_keep_a_training_beyond_the_time_that_engines_grant(project: Path) -> None:
    script = (
        "import time; from tood.io import console; from tood.training.processes import stopping\n"
        "from tood.verbs import train\n"
        "console.start(); stopping._GRACE = 0.5\n"
        "def step(*_): print('a step', flush=True); time.sleep(60)\n"
        "train._train_here = step\n"
        f"train.train(train.Path('{RUN}'), train.Machine(gpu='0'), 1, train.CodeChoice(), [])"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=project, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "a step\n" in iter(process.stdout.readline, "")
    process.terminate()
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 143
    assert said.count("is asked to stop (SIGTERM); saving after this step") == 1
    assert said.count("and ends; its last checkpoint remains") == 1


def test_a_process_whose_training_stopped_in_time_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    forced: list[int] = []
    monkeypatch.setattr(os, "_exit", forced.append)
    monkeypatch.setattr(stopping, "_GRACE", 0.2)
    for seconds, found in ((0.0, []), (0.5, [143])):
        with stop_requests(lambda request: end_in_time(request, lambda: None)):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(seconds)
        time.sleep(0.5)
        assert forced == found


def test_a_failure_of_another_command_stops_no_retry(project: Path) -> None:
    reschedule(project, epochs=500)
    first = start(project, "atss", "--attempt", "1")
    wait_for(lambda: bool(checkpoints(project)))
    train(project, "atss", status=75)
    train(project, "atss", "--processes", "3", status=2)
    first.kill()
    kept = checkpoints(project)
    again = start(project, "atss", "--attempt", "2")
    wait_for(lambda: checkpoints(project) != kept)
    again.send_signal(signal.SIGTERM)
    status, said = again.end()
    assert status == 143, said


def test_a_failure_for_good_ends_the_next_attempt_at_once(project: Path) -> None:
    reschedule(project, **EXPLODES)
    first = train(project, "atss", "--attempt", "1", status=2)
    (project / RUN / "state" / "lock").write_text("")  # whoever trains touches it
    os.utime(project / RUN / "state" / "lock", (1, 1))
    second = train(project, "atss", "--attempt", "2", status=2)
    assert second == first.splitlines(keepends=True)[-1]
    assert (project / RUN / "state" / "lock").stat().st_mtime == 1
    reschedule(project)
    assert "trained: " in train(project, "atss", "--attempt", "1")


def test_a_breakdown_names_its_images_and_can_be_computed_again(project: Path) -> None:
    reschedule(project, **EXPLODES)
    said = train(project, "atss", status=2)
    assert "whose images were " in said
    assert f"tood replay --run {RUN}" in said
    (kept,) = (project / RUN / "state").glob("*/breakdown.pt")
    content = torch.load(kept, weights_only=True)
    assert all(value.isfinite().all() for value in content["detector"].values()), "the weights before the step"
    said = tood(project, "replay", "--run", RUN)
    assert f"step {content['step'] + 1}, epoch {content['epoch'] + 1}, in the training" in said
    assert "the gradient is not finite in " in said
    assert said.count(" objects: ") == 4
    reschedule(project)
    assert "did not break down with the configuration" in tood(project, "replay", "--run", RUN, status=2)


@pytest.mark.long
def test_fewer_processes_go_on_with_the_same_batch_and_memory(project: Path, left_alone: LeftAlone) -> None:
    _, rows = left_alone(1)
    process = start(project, "atss", "--processes", "2")
    wait_for(lambda: bool(checkpoints(project)))
    process.send_signal(signal.SIGTERM)
    process.end()
    said = train(project, "atss")
    assert (
        "goes on with 1 process instead of 2: still 4 images a step in the same order, 4 a process in 2 parts" in said
    )
    again = history(project, "atss")
    assert [row["step"] for row in again] == [row["step"] for row in rows]
    assert [float(row["loss"]) for row in again[:8]] == pytest.approx(
        [float(row["loss"]) for row in rows[:8]], rel=2e-3
    ), "rounding differs, and grows later"


def test_what_is_compared_is_computed_at_once_when_another_division_goes_on(project: Path) -> None:
    interrupt(project, "pisa")
    (state,) = (project / "results/tiny/pisa/state").glob("*/")
    store = CheckpointStore(state.parent, state.name)
    kept = store.load()
    store.save(kept["step"], {**kept, "world": 2, "losses": kept["losses"] * 2})
    said = train(project, "pisa")
    assert "goes on with 1 process instead of 2: still 4 images a step in the same order, 4 a process\n" in said


@pytest.mark.parametrize("schedule", [{}, {"ema": {"decay": 0.9}}])
def test_another_processor_keeps_the_memory_layout_that_the_training_began_with(
    project: Path, monkeypatch: pytest.MonkeyPatch, schedule: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Last digits depend on it; processors prefer different ones."""
    reschedule(project, **schedule)
    monkeypatch.chdir(project)
    folder, machine = Path(RUN), Machine(gpu="0")
    caplog.set_level("INFO", logger="tood")

    def train_where(layout: torch.memory_format) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("tood.detection.detector.layouts_on", lambda *_, **__: (OUTERMOST, layout))
            verb.train(folder, machine, 1, CodeChoice(), [])

    train_where(INNERMOST)
    whole, rows = weights(project, "atss"), history(project, "atss")
    shutil.rmtree("results")
    with monkeypatch.context() as patch:
        patch.setattr(verb, "stop_requests", stop_after(7))
        with pytest.raises(StoppedError):
            train_where(INNERMOST)
    train_where(OUTERMOST)
    assert any("keeps its channels outermost and innermost in memory" in line for line in caplog.messages)
    assert history(project, "atss") == rows
    assert same(weights(project, "atss"), whole)
    assert read_json(folder / "train.json")["memory_layouts"] == ["outermost", "innermost"]


def test_data_prepared_from_another_configuration_are_not_trained_on(project: Path) -> None:
    shared = (project / "data").resolve()
    (project / "data").unlink()
    shutil.copytree(shared, project / "data")  # which is prepared anew, and other tests use theirs
    file = project / "params/datasets/tiny.yaml"
    content = yaml.safe_load(file.read_text())
    content["splits"]["train"]["seed"] = 9
    file.write_text(yaml.safe_dump(content))
    said = train(project, "atss", status=2)
    assert "data/tiny: was prepared before params/datasets/tiny.yaml was changed" in said
    tood(project, "data", "prepare", "tiny")
    assert "trained: " in train(project, "atss")
