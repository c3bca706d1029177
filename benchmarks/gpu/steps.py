"""The steps of ``benchmarks/gpu.sh``, each in a process of its own.

python benchmarks/gpu/steps.py list                         # their names, and the seconds that each may take
python benchmarks/gpu/steps.py run equality --out results/gpu
python benchmarks/gpu/steps.py run equality --out /tmp/gpu --device cpu --small     # only to see that it runs
python benchmarks/gpu/steps.py table --out results/gpu
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from gpu import checks, interruption, speed
from gpu.rows import Place, Row, keep, kept, table

Find = Callable[[Place], list[Row]]


@dataclass(frozen=True)
class Step:
    find: Find
    seconds: int
    """That it may take; the sum is more than what ``gpu.sh`` grants to all, since most take less."""


STEPS = {
    "card": Step(checks.card, 20),
    "equality": Step(checks.equality_with_the_cpu, 90),
    "kernels": Step(checks.fused_against_plain, 40),
    "graphs": Step(checks.graphed_against_plain, 60),
    "waits": Step(checks.no_waits, 60),
    "determinism": Step(checks.equal_steps, 30),
    "training": Step(speed.training, 90),
    "inference": Step(speed.inference, 60),
    "postprocess": Step(speed.postprocessing, 30),
    "jitter": Step(speed.jittered_training, 60),
    "interruption": Step(interruption.kill_and_resume, 90),
    "profile": Step(speed.profile_by_kernel, 40),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["list", "run", "table"])
    parser.add_argument("step", nargs="?", choices=[*STEPS])
    parser.add_argument("--out", type=Path, default=Path("results/gpu"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if options.verb == "list":
        for name, step in STEPS.items():
            print(name, step.seconds)
    elif options.verb == "run":
        started = time.monotonic()
        if options.device == "cuda" and not torch.cuda.is_available():
            parser.error("PyTorch sees no GPU here; --device cpu --small only shows that a step runs")
        rows = STEPS[options.step].find(Place(torch.device(options.device), options.small))
        options.out.mkdir(parents=True, exist_ok=True)
        keep(options.out / f"{options.step}.json", time.monotonic() - started, rows)
        for row in rows:
            print(row.line(), flush=True)
    else:
        parts = [(name, kept(options.out / f"{name}.json")) for name in STEPS]
        everything = {name: None if rows is None else [vars(row) for row in rows] for name, rows in parts}
        (options.out / "gpu.json").write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
        print(table(parts))
        if any(rows is None or any(row.ok is False for row in rows) for _, rows in parts):
            sys.exit(1)


if __name__ == "__main__":
    main()
