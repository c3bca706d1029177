"""Loader processes of a real training: their death costs no step, they outlive nobody, and their failure is told."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tiny_run import checkpoints, history, reschedule, start, wait_for, weights, workers_in

from tood.cli.main import main
from tood.evaluation.detections import detect_split
from tood.io.errors import StoppedError, TransientError
from tood.io.shared_constants import RAISED
from tood.training.processes import launch as module
from tood.training.processes.launch import Launch, launch
from tood.training.processes.machine import Machine
from tood.verbs import train as verb
from tood.workflow.code_choice import CodeChoice


def loader_processes(project: Path, trainer: int) -> list[int]:
    return [pid for pid in workers_in(project) if psutil.Process(pid).ppid() == trainer]


def test_a_killed_loader_process_costs_no_step(project: Path) -> None:
    reschedule(project, epochs=500, evaluate_every=500, checkpoint_every=10_000)
    process = start(project, "atss", "--workers", "1")
    loaders: list[int] = []
    wait_for(lambda: bool(loaders.extend(loader_processes(project, process.pid)) or loaders))
    os.kill(loaders[0], signal.SIGKILL)
    status, said = process.end()
    assert status == 75, said
    assert "Traceback" not in said
    (sentence,) = [line for line in said.splitlines() if "killed" in line]
    step = int(sentence.partition("saved after step ")[2].split()[0])
    assert "--workers, 0 for none" in sentence
    if step:
        assert [path.stem for path in checkpoints(project)] == [f"step-{step:09}"]


def test_loader_processes_end_with_a_killed_trainer(project: Path) -> None:
    reschedule(project, epochs=500, evaluate_every=500)
    process = start(project, "atss", "--workers", "2")
    wait_for(lambda: len(loader_processes(project, process.pid)) == 2)
    process.kill()
    wait_for(lambda: not workers_in(project), seconds=10)


@pytest.mark.long
def test_a_stop_of_all_processes_during_an_evaluation_repeats_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    reschedule(project, epochs=2, milestones=[], evaluate_every=1)
    folder, machine = Path("results/tiny/atss"), Machine(gpu="0", workers=2)
    verb.train(folder, machine, 1, CodeChoice(), [])
    whole, rows = weights(project, "atss"), history(project, "atss")
    shutil.rmtree("results")

    def stopped_at_the_second_image(*arguments: Any, before_each: Callable[[], None], **options: Any) -> Any:
        looks: list[None] = []

        def ask() -> None:
            looks.append(None)
            if len(looks) == 2:
                loaders = psutil.Process().children()
                assert len(loaders) >= 2
                for pid in [*(loader.pid for loader in loaders), os.getpid()]:
                    os.kill(pid, signal.SIGTERM)
            before_each()

        return detect_split(*arguments, before_each=ask, **options)

    with monkeypatch.context() as patch:
        patch.setattr(verb, "detect_split", stopped_at_the_second_image)
        with pytest.raises(StoppedError, match="saved after step 6 of 12") as caught:
            verb.train(folder, machine, 1, CodeChoice(), [])
    assert caught.value.status == 143
    verb.train(folder, machine, 1, CodeChoice(), [])
    assert history(project, "atss") == rows
    again = weights(project, "atss")
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_what_ends_processes_again_and_again_is_told_by_their_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise TransientError("data/images: a process reading images was killed.")

    monkeypatch.setattr("tood.verbs.show.show", fail)
    monkeypatch.setattr("sys.argv", ["tood", "show"])
    monkeypatch.setenv(RAISED, str(tmp_path / "error.txt"))
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 75
    assert not (tmp_path / "error.txt").exists(), "the next process may succeed"
    (left,) = tmp_path.iterdir()
    leaves = f"cp '{left}' \"$(dirname ${RAISED})/{left.name}\"; exit 1"
    monkeypatch.setattr(module, "_command", lambda *_: ["sh", "-c", leaves])
    plan = Launch(processes=2, gpus=(), nodes=1, rendezvous=None, name="x", folder=tmp_path / "state")
    with pytest.raises(TransientError, match="data/images: a process reading images was killed"):
        launch([], plan)
    capsys.readouterr()
