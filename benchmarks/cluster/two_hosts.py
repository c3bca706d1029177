"""One training on two hosts, undisturbed and disturbed: ``benchmarks/cluster/two_hosts.sh``.

The same short training by one process; by two hosts of one and of two processes each; with one host's power cut and the
command repeated there; with the power of the host of the rendezvous cut; with the cable between them pulled. Numbers of
undisturbed and disturbed trainings of one division are equal to the bit, those of several to rounding.

Prints what happened; exits with 1 when something is not as promised.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests/training"))
from tiny_run import history, make_project, tood, wait_for, weights

RUN = "atss"
PORT = 29400
TIMEOUT = 20  # seconds until a peer that does not answer counts as gone
ROUNDING = 1e-3  # relative, of the loss in the first steps; later ones magnify what is left of it
PATIENCE = 400  # seconds for anything to happen


@dataclass(eq=False)
class Host:
    number: int
    folder: Path
    process: "subprocess.Popen[str] | None" = None

    def train(self, processes: int) -> None:
        """Start the command, the same on both hosts."""
        inside = [*os.environ[f"ON_HOST{self.number}"].split(), sys.executable, "-m", "tood.cli.main"]
        options = f"--gpu 0 --threads 1 --processes {processes} --nodes 2 --rendezvous host1:{PORT} --timeout {TIMEOUT}"
        self.process = subprocess.Popen(
            [*inside, "train", "--run", f"results/tiny/{RUN}", *options.split()],
            cwd=self.folder,
            stdout=(self.folder / f"host{self.number}.log").open("a"),
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def cut_power(self) -> None:
        """All processes of the host end at once, without a word."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def status(self, patience: float = PATIENCE) -> int | None:
        """How the command ended; None if it has not."""
        assert self.process is not None
        try:
            return self.process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            return None

    def said(self) -> str:
        return (self.folder / f"host{self.number}.log").read_text()


def cable(state: str) -> None:
    subprocess.run(["ip", "-n", "host2", "link", "set", "eth0", state], check=True)


class Trials:
    """What was tried, against one process and against undisturbed hosts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wrong: list[str] = []
        tood(folder, "train", "--run", f"results/tiny/{RUN}", "--gpu", "0", "--threads", "1")
        self.single = history(folder, RUN)
        self.whole: dict[str, torch.Tensor] = {}

    def hosts(self) -> tuple[Host, Host]:
        shutil.rmtree(self.folder / "results")
        for log in self.folder.glob("host*.log"):
            log.unlink()
        return Host(1, self.folder), Host(2, self.folder)

    def wait_for_checkpoint(self) -> None:
        state = self.folder / "results/tiny" / RUN / "state"
        wait_for(lambda: bool(list(state.glob("*/step-*.pt"))), PATIENCE)

    def repeat_until_done(self, hosts: Sequence[Host]) -> int:
        """Repeat the command on a host where it ended too early, as a person or a queue would; says how often."""
        repeats, deadline = 0, time.monotonic() + PATIENCE
        while (ended := [host.status(0.5) for host in hosts]) != [0, 0] and time.monotonic() < deadline:
            for host, status in zip(hosts, ended, strict=True):
                if status:
                    repeats += 1
                    print(f"host{host.number} ended with {status}: {host.said().splitlines()[-1]}")
                    host.train(processes=1)
        return repeats

    def report(self, what: str, began: float, problems: list[str]) -> None:
        print(f"{what} ({time.monotonic() - began:.0f} s): {'; '.join(problems) or 'as promised'}", flush=True)
        self.wrong += problems

    def undisturbed(self, processes: int) -> None:
        began = time.monotonic()
        first, second = self.hosts()
        first.train(processes)
        second.train(processes)
        problems = [f"host{one.number} ended with {one.status()}" for one in (first, second) if one.status() != 0]
        if problems:
            print(first.said(), second.said())
        else:
            pairs = zip(history(self.folder, RUN)[:6], self.single[:6], strict=True)
            error = max(abs(float(a["loss"]) / float(b["loss"]) - 1) for a, b in pairs)
            print(f"loss of the first rows differs from one process's by at most {error:.1e}")
            problems += [f"loss differs by {error:.1e}"] if error > ROUNDING else []
        self.report(f"two hosts of {processes}", began, problems)
        self.whole = weights(self.folder, RUN)

    def disturbed(self, what: str, disturb: list[str]) -> None:
        """Cut the power of the named hosts after a checkpoint, or the cable between them, and repeat what ended."""
        began = time.monotonic()
        both = self.hosts()
        for host in both:
            host.train(processes=1)
        self.wait_for_checkpoint()
        if disturb == ["cable"]:
            cable("down")
            time.sleep(TIMEOUT * 2)
            cable("up")
        for host in both:
            if f"host{host.number}" in disturb:
                host.cut_power()
                host.train(processes=1)
        repeats = self.repeat_until_done(both)
        problems = [f"host{one.number} is not done" for one in both if one.status(0) != 0]
        said = "".join(host.said() for host in both)
        if "continues after step" not in said:
            problems.append("did not continue")
        problems += [] if problems or same(self.whole, weights(self.folder, RUN)) else ["weights differ"]
        self.report(f"{what}, {repeats} commands repeated", began, problems)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tood-two-hosts-"))
    try:
        make_project(folder, epochs=30, milestones=[24], evaluate_every=30, checkpoint_every=6)
        trials = Trials(folder)
        trials.undisturbed(processes=2)
        trials.undisturbed(processes=1)
        trials.disturbed("power of the other host cut", ["host2"])
        trials.disturbed("power of the rendezvous' host cut", ["host1"])
        trials.disturbed("power of both cut", ["host1", "host2"])
        trials.disturbed(f"cable pulled for {2 * TIMEOUT} s", ["cable"])
    finally:
        shutil.rmtree(folder)
    if trials.wrong:
        raise SystemExit("not as promised: " + "; ".join(trials.wrong))


if __name__ == "__main__":
    main()
