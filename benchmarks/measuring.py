"""Running parts of a benchmark in processes of their own, so that each peak of memory is its own."""

import argparse
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Figures:
    """What one part has to say, line by line; ``scale`` is the share of the full size, ``work`` its folder."""

    work: Path
    scale: float

    def __post_init__(self) -> None:
        self.at_start = peak_mb()

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        started, used = time.perf_counter(), cpu_seconds()
        yield
        self.say(f"{what}: {time.perf_counter() - started:.1f} s, {cpu_seconds() - used:.1f} s of the processor")

    def say(self, text: str) -> None:
        print(f"    {text}", flush=True)

    def peak(self, what: str) -> None:
        self.say(f"{what}: peak {peak_mb():,.0f} MB resident, {self.at_start:,.0f} MB of it before")


Part = Callable[[Figures], None]


def cpu_seconds() -> float:
    """Of this process and of those that it has started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def private_mb(pid: int) -> float:
    """Memory that a process shares with no other, pages that it has copied by writing to them included."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


def run_parts(parts: Mapping[str, Sequence[Part]], about: str | None) -> None:
    """The command line: the parts named, one after the other, in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"Of {', '.join(parts)}; by default all.")
    parser.add_argument("--scale", type=float, default=1.0, help="Share of COCO's images.")
    parser.add_argument("--folder", type=Path, help="Where the data is made and removed again; default: temporary.")
    options = parser.parse_args()
    if not set(options.parts) <= set(parts):
        parser.error(f"parts are {', '.join(parts)}")
    work = Path(tempfile.mkdtemp(prefix="tood-size-", dir=options.folder))
    try:
        for name in options.parts or parts:
            for part in parts[name]:
                print(f"{name}: {part.__name__}", flush=True)
                in_process(_run_part, part, work, options.scale)
    finally:
        shutil.rmtree(work)


def _run_part(part: Part, work: Path, scale: float) -> None:
    part(Figures(work, scale))


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run in a new process, which begins with no memory but Python's own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        sys.exit(f"{function.__name__} failed")
    process.join()
    return result


def _send(sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    sender.send(function(*arguments))
