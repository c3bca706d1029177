"""Timing a workload and its yardstick in alternation."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Work:
    """Something to time, and what to time it against."""

    part: str
    name: str
    yardstick_name: str
    run: Callable[[], object]
    yardstick: Callable[[], object]
    images: int
    """Images that one run takes."""
    flops: int | None = None
    """Floating-point operations of one run, if they were counted."""


@dataclass(frozen=True)
class Timing:
    """Pairs of measurements, made one right after the other."""

    work_ms: list[float]
    yardstick_ms: list[float]
    peak_memory_bytes: int | None
    """Of the GPU's allocator while working, models included; unknown on a CPU."""

    @property
    def ratios(self) -> list[float]:
        return [work / yardstick for work, yardstick in zip(self.work_ms, self.yardstick_ms, strict=True)]

    @property
    def ratio(self) -> float:
        """Median of the pairs' ratios; other load on the machine affects both sides of a pair."""
        return statistics.median(self.ratios)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Quartiles of the pairs' ratios; the extremes when there are fewer than four pairs."""
        ordered = sorted(self.ratios)
        if len(ordered) < 4:
            return ordered[0], ordered[-1]
        first, _, third = statistics.quantiles(ordered, n=4)
        return first, third


def time_in_turns(work: Work, device: torch.device, *, repeats: int, warmup: int) -> Timing:
    """Run work and yardstick alternately ``repeats`` times, after ``warmup`` turns that do not count."""
    for _ in range(warmup):
        work.run()
        work.yardstick()
    peak = _peak_memory(work, device)
    pairs = [(milliseconds(work.run, device), milliseconds(work.yardstick, device)) for _ in range(repeats)]
    return Timing([pair[0] for pair in pairs], [pair[1] for pair in pairs], peak)


def milliseconds(run: Callable[[], object], device: torch.device) -> float:
    """Time of one run: between CUDA events on an idle GPU, wall-clock time on a CPU."""
    if device.type != "cuda":
        started = time.perf_counter()
        run()
        return 1000 * (time.perf_counter() - started)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize(device)
    return float(begin.elapsed_time(end))


def count_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of convolutions and matrix products, forward and backward, in one run."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def _peak_memory(work: Work, device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    work.run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)
