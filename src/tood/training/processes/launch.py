"""Launching several processes for one run with torchrun, on one machine or several."""

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tood.io.end_with_parent import end_with_parent
from tood.io.errors import StoppedError, TransientError, UserError
from tood.io.shared_constants import LAUNCHER, MEETING, PASSING, RAISED
from tood.training.processes.rendezvous import Rendezvous
from tood.training.processes.stopping import StopRequest, stop_requests

log = logging.getLogger(__name__)

_RESTARTS = 3
_LOOK_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class Launch:
    """The processes of this machine, and how they find those of others."""

    processes: int
    gpus: Sequence[str]
    nodes: int
    rendezvous: Rendezvous | None
    """None on one machine."""
    name: str
    """Id of this training, the same on every node and unique at that rendezvous."""
    folder: Path
    """Where the processes write their last output."""


def launch(arguments: Sequence[str], plan: Launch) -> None:
    """Run ``tood <arguments>`` in several processes, which are started again from their checkpoint if one dies.

    Raises UserError with a process's own sentence, TransientError when they were killed from outside more often
    than that, and StoppedError when this process was asked to end, which they then were as well.
    """
    place = f"-{socket.gethostname()}" if plan.nodes > 1 else ""
    words = plan.folder / f"processes{place}.log"
    environment = {**os.environ, LAUNCHER: str(os.getpid())}
    environment.setdefault("OMP_NUM_THREADS", "1")
    # One store for each restart: in a shared one, new groups would find the addresses of earlier processes.
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    if plan.rendezvous is None:
        environment |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    elif plan.rendezvous.interface is not None:
        environment.setdefault("GLOO_SOCKET_IFNAME", plan.rendezvous.interface)
        environment.setdefault("NCCL_SOCKET_IFNAME", plan.rendezvous.interface)
    if plan.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(plan.gpus)
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        sink = words.open("w", encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{plan.folder}: cannot be written: {error.strerror}.") from error
    with sink, tempfile.TemporaryDirectory(prefix="tood-meeting-") as meeting:
        message = Path(meeting) / "error.txt"  # of this launch alone
        environment[RAISED] = str(message)
        if plan.rendezvous is None:
            environment[MEETING] = meeting
        with plan.rendezvous.serving() if plan.rendezvous else nullcontext() as serves:
            command = _command(arguments, plan, Path(meeting), serves)
            process = subprocess.Popen(
                command,
                env=environment,
                stderr=sink,
                start_new_session=True,
                preexec_fn=partial(end_with_parent, signal.SIGTERM),
            )

            def pass_on(_: StopRequest) -> None:
                process.send_signal(signal.SIGTERM)

            with stop_requests(pass_on) as stop:
                status = _wait(process, message)
        said, passing = _said(message), _said(message.with_name(message.name + PASSING))
    if status == 0:
        return
    log.debug("%s", words.read_text(encoding="utf-8", errors="replace"))
    if stop:
        raise StoppedError(
            f"{plan.folder.parent}: was asked to stop ({stop.reason}) and is saved; repeat the command to continue.",
            stop.number or signal.SIGTERM,
        )
    if said:
        raise UserError(*said.split("\n"))
    because = f"the last time: {passing}" if passing else f"their output is in {words}; repeat the command to continue."
    raise TransientError(
        f"{plan.folder.parent}: its processes, or those of another node, died more often than they are restarted "
        f"({_RESTARTS} times); {because}"
    )


def _wait(process: subprocess.Popen[bytes], message: Path) -> int:
    """The status of torchrun, which is ended once a process failed for good: it would start all of them again."""
    ended = False
    while True:
        try:
            return process.wait(_LOOK_EVERY)
        except subprocess.TimeoutExpired:
            if message.exists() and not ended:
                process.terminate()
                ended = True


def _said(message: Path) -> str:
    """The error that a process left."""
    return message.read_text(encoding="utf-8").strip() if message.exists() else ""


def _command(arguments: Sequence[str], plan: Launch, meeting: Path, serves: bool | None) -> list[str]:
    if plan.rendezvous is None:
        # Through a file: torchrun's server would listen to every network, and unpickles what it is sent.
        meet = [f"--rdzv-endpoint={meeting / 'agents'}", "--rdzv-conf=store_type=file"]
    else:
        meet = [f"--rdzv-endpoint={plan.rendezvous.endpoint}"]
        meet += [] if serves is None else [f"--rdzv-conf=is_host={str(serves).lower()}"]
        meet += [f"--local-addr={plan.rendezvous.address}"] if plan.rendezvous.address else []
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nnodes={plan.nodes}",
        "--rdzv-backend=c10d",
        f"--rdzv-id={plan.name}",
        *meet,
        f"--nproc-per-node={plan.processes}",
        f"--max-restarts={_RESTARTS}",
        "--module",
        "--",  # end of torchrun's options; it would take --run for one of its own
        "tood.cli.main",
        *arguments,
    ]
