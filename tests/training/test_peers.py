"""One of several processes fails: the others end soon, whatever they wait for, and its one sentence is told."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_run import checkpoints, reschedule, start, wait_for, workers_in

from tood.io.errors import UserError
from tood.io.shared_constants import RAISED
from tood.training.processes import launch as module
from tood.training.processes.launch import Launch, launch

PROMISED = 30.0  # seconds (docs/reliability.md)


def own_images(project: Path) -> list[Path]:
    """The training images of a copy of the data that this test may spoil."""
    shared = (project / "data").resolve()
    (project / "data").unlink()
    shutil.copytree(shared, project / "data")
    return sorted((project / "data/tiny").rglob("train/**/*.png")) or sorted((project / "data/tiny").rglob("*.png"))


@pytest.mark.parametrize("workers", ["0", pytest.param("1", marks=pytest.mark.long)])
def test_an_image_that_became_unreadable_ends_all_processes(project: Path, workers: str) -> None:
    images = own_images(project)
    assert images
    reschedule(project, epochs=500, evaluate_every=500)
    process = start(project, "atss", "--processes", "2", "--workers", workers)
    wait_for(lambda: bool(checkpoints(project)))
    for image in images:
        image.write_bytes(b"no image")
    spoilt = time.monotonic()
    status, said = process.end(2 * PROMISED)
    assert status == 2, said
    assert time.monotonic() - spoilt < PROMISED
    (sentence,) = said.splitlines()[-1:]
    assert ".png" in sentence
    assert "Traceback" not in said
    assert not workers_in(project)


def test_a_process_that_waits_for_ever_ends_when_its_peer_failed(tmp_path: Path) -> None:
    raised = tmp_path / "error.txt"
    script = (
        "import signal, time; from tood.training.processes import peers\n"
        "peers._LOOK_EVERY = peers._COURTESY = 0.1\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "with peers.ends_with_peers():\n"
        "    print('waits', flush=True); time.sleep(600)"
    )
    environment = {**os.environ, RAISED: str(raised)}
    waiting = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "waits\n"
    waiting.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(1)
    raised.write_text("data/images: is gone.")
    assert waiting.wait(10) == 2


def test_what_failed_for_good_is_not_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = f"echo 'data/images: is gone.' > \"${RAISED}\"; exec sleep 600"
    monkeypatch.setattr(module, "_command", lambda *_: ["sh", "-c", leaves])
    plan = Launch(processes=2, gpus=(), nodes=1, rendezvous=None, name="x", folder=tmp_path / "state")
    with pytest.raises(UserError, match="data/images: is gone"):
        launch([], plan)
