"""Loader processes of a real training: their death costs no step, they outlive nobody, and their failure is told."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tiny_run import EIGHT, checkpoints, history, reschedule, start, train, training, wait_for, weights, workers_in

from tood.cli.main import main
from tood.evaluation.detections import detect_in
from tood.io.errors import StoppedError, TransientError
from tood.io.shared_constants import RAISED
from tood.training.processes import launch as module
from tood.training.processes.launch import Launch, launch
from tood.training.processes.machine import Machine
from tood.verbs import train as verb
from tood.verbs import val_evaluation
from tood.workflow.code_choice import CodeChoice


def loader_processes(project: Path, trainer: int) -> list[int]:
    return [pid for pid in workers_in(project) if psutil.Process(pid).ppid() == trainer]


def test_a_killed_loader_process_costs_no_step(project: Path) -> None:
    reschedule(project, epochs=500, evaluate_every=500, checkpoint_every=10_000)
    process = start(project, "atss", "--workers", "1")
    wait_for(lambda: len(loader_processes(project, process.pid)) == 2)  # the first is for evaluations
    loaders = loader_processes(project, process.pid)
    os.kill(max(loaders, key=lambda pid: psutil.Process(pid).create_time()), signal.SIGKILL)
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
    wait_for(lambda: len(loader_processes(project, process.pid)) == 4)
    process.kill()
    wait_for(lambda: not workers_in(project), seconds=10)


def start_with_server(project: Path) -> subprocess.Popen[str]:
    """A training whose loader processes are forked by a server, as on a GPU, in a process group of its own."""
    script = (
        "import sys; from tood.cli.main import main; from tood.verbs import train\n"
        "train.server_for = lambda *_: train.ForkServer()\n"
        f"sys.argv[1:] = {list(training('atss', '--workers', '2'))}; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script], cwd=project, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize("to_all", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_signal_to_a_server_and_what_it_forked_costs_no_digit(
    project: Path, trained: Callable[..., Path], to_all: bool
) -> None:
    reschedule(project, **EIGHT)
    whole = trained("atss", "--processes", "1", **EIGHT)
    process = start_with_server(project)
    wait_for(lambda: bool(checkpoints(project)))
    assert len(workers_in(project)) == 1 + 1 + 2, "those for evaluations are forked at the first"
    if to_all:
        for pid in workers_in(project):
            os.kill(pid, signal.SIGTERM)
    else:
        os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "Traceback" not in said
    assert "repeat the command to continue" in said
    wait_for(lambda: not workers_in(project), seconds=1)
    assert "continues after step" in train(project, "atss", "--workers", "1"), "however its batches are read"
    assert history(project, "atss") == history(whole, "atss")
    again = weights(project, "atss")
    assert all(torch.equal(value, again[name]) for name, value in weights(whole, "atss").items())


def test_a_server_and_what_it_forked_end_with_a_killed_trainer(project: Path) -> None:
    reschedule(project, epochs=500, evaluate_every=500)
    process = start_with_server(project)
    wait_for(lambda: len(workers_in(project)) == 4)
    process.kill()
    process.communicate()
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

        return detect_in(*arguments, before_each=ask, **options)

    with monkeypatch.context() as patch:
        patch.setattr(val_evaluation, "detect_in", stopped_at_the_second_image)
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
