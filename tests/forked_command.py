"""Commands in processes of their own that need not import torch, which takes longer than a tiny training.

They are forked from a server that has imported everything and does nothing else, so that no test meets what another one
left in memory, and signals, exit statuses and output are those of the command.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import entry_points
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, ClassVar, NoReturn

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "pytest",
        "snakemake.cli",
        "tood.cli.main",
        "tood.verbs.analyse",
        "tood.verbs.compare",
        "tood.verbs.evaluate",
        "tood.verbs.prepare_data",
        "tood.verbs.pretrain_backbone",
        "tood.verbs.sync",
        "tood.verbs.train",
        "tood.workflow.plan",
        "preloaded_digests",
        # what these import only when they need it
        "boto3",
        "docutils.core",
        "dvc.cli",
        "dvc.commands.repro",
        "dvc.output",
        "dvc.repo",
        "dvc.stage",
        "dvc.repo.reproduce",
        "dvc_render",
        "jinja2",
        "matplotlib.backends.backend_agg",
        "matplotlib.figure",
        "mlflow.store.db.utils",
        "mlflow.store.tracking.sqlalchemy_store",
        "PIL.JpegImagePlugin",
        "PIL.PngImagePlugin",
        "scmrepo.git",
        "smart_open",
        "torch._dynamo",
    ]
)
TOOLS = "FORKED_TOOLS"
"""Variable with the folder of ``forked_tools.py``."""


class ForkedCommand:
    """A program of the environment at work in ``folder``.

    ``environment`` is added to this process's own, and variables ``without`` are taken from it.
    """

    running: ClassVar["list[ForkedCommand]"] = []

    def __init__(
        self, folder: Path, program: str, *arguments: str, without: Sequence[str] = (), **environment: str
    ) -> None:
        with tempfile.NamedTemporaryFile(prefix="said-", delete=False) as said:
            self._said = Path(said.name)
        everything = {key: value for key, value in os.environ.items() if key not in without} | environment
        self._process: ForkServerProcess = SERVER.Process(
            target=_run, args=(self._said, folder, program, arguments, everything)
        )
        self._process.start()
        self.running.append(self)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def send_to_group(self, number: signal.Signals) -> None:
        """As ``timeout``, Ctrl-C in a terminal and ``kill -- -PID`` do, to all processes of the command."""
        os.killpg(self.pid, number)

    def end(self, seconds: float = 180) -> tuple[int, str]:
        """Wait for its end; its exit status, negative if a signal ended it, and all that it printed."""
        self._process.join(seconds)
        status = self._process.exitcode
        assert status is not None, "it did not end in time"
        said = self._said.read_text(errors="replace")
        self._said.unlink()
        self.running.remove(self)
        return status, said

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self.end()


def _run(said: Path, *command: Any) -> None:
    os.setpgid(0, 0)  # a group of its own, as a shell gives each command
    output = os.open(said, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    become(*command)


def become(folder: Path | str, program: str, arguments: Sequence[str], environment: dict[str, str]) -> NoReturn:
    """In a new process: the command, as a shell would start it."""
    multiprocessing.set_start_method("fork", force=True)  # the default of a process that nobody forked
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if TOOLS in environment:  # workflows put the folder of their interpreter first on PATH
        sys.executable = str(Path(environment[TOOLS], "python"))
    sys.argv = [str(Path(sys.executable).with_name(program)), *arguments]
    (script,) = entry_points(group="console_scripts", name=program)
    sys.exit(script.load()())
