"""Several processes for one run: torchrun around the same command."""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tood.errors import UserError

_PR_SET_PDEATHSIG = 1
RAISED = "TOOD_RAISED"  # file in which a worker leaves the sentence for its launcher


def in_worker() -> bool:
    """Whether this process was started by torchrun."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _end_with_parent() -> None:
    """Ask the kernel (Linux) to end torchrun, and so its workers, when the launcher that holds the lock dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _passing_on_signals(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Let a SIGTERM to the launcher reach torchrun, which ends its workers."""
    before = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def launch(arguments: Sequence[str], processes: int, gpus: Sequence[str], message: Path) -> None:
    """Run ``tood <arguments>`` in ``processes`` processes of one node; UserError if one of them fails.

    A free port each time, so that runs side by side never collide.
    """
    message.unlink(missing_ok=True)
    environment = {**os.environ, RAISED: str(message)}
    environment.setdefault("OMP_NUM_THREADS", "1")
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        "--module",
        "--",  # what follows is not for torchrun, which would take --run for one of its own options
        "tood.cli",
        *arguments,
    ]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        process = subprocess.Popen(command, env=environment, stderr=complaints, preexec_fn=_end_with_parent)
        with _passing_on_signals(process):
            status = process.wait()
        if status == 0:
            return
        try:
            said = message.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            complaints.seek(0)
            sys.stderr.write(complaints.read())
            said = f"one of {processes} training processes ended with status {status}; its last words are above."
        finally:
            message.unlink(missing_ok=True)
    raise UserError(said)
