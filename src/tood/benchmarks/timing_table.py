"""Benchmark results as a text table and as JSON."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tood.benchmarks.timing import Timing, Work


@dataclass(frozen=True)
class TimingRow:
    """One work with its timing; ``peak`` is what the card could do, in operations per second."""

    work: Work
    timing: Timing
    peak: float | None

    def as_json(self) -> dict[str, Any]:
        """Everything measured; null where the device does not report a value."""
        first, third = self.timing.quartiles
        return {
            "part": self.work.part,
            "work": self.work.name,
            "yardstick": self.work.yardstick_name,
            "ratio": round(self.timing.ratio, 4),
            "ratio_quartiles": [round(first, 4), round(third, 4)],
            "work_ms": round(self._milliseconds, 4),
            "work_ms_p95": round(self._slow_milliseconds, 4),
            "yardstick_ms": round(statistics.median(self.timing.yardstick_ms), 4),
            "images_per_second": round(self.images_per_second, 3),
            "peak_memory_bytes": self.timing.peak_memory_bytes,
            "flops": self.work.flops,
            "share_of_bf16_peak": None if self.share_of_peak is None else round(self.share_of_peak, 4),
            "pairs_ms": [
                [round(work, 4), round(yardstick, 4)]
                for work, yardstick in zip(self.timing.work_ms, self.timing.yardstick_ms, strict=True)
            ],
        }

    @property
    def _milliseconds(self) -> float:
        return statistics.median(self.timing.work_ms)

    @property
    def _slow_milliseconds(self) -> float:
        """The 95th percentile."""
        return float(np.percentile(self.timing.work_ms, 95))

    @property
    def images_per_second(self) -> float:
        return 1000 * self.work.images / self._milliseconds

    @property
    def share_of_peak(self) -> float | None:
        if self.work.flops is None or self.peak is None:
            return None
        return self.work.flops / (self._milliseconds / 1000) / self.peak

    def cells(self) -> list[str]:
        first, third = self.timing.quartiles
        memory, share = self.timing.peak_memory_bytes, self.share_of_peak
        return [
            self.work.part,
            self.work.name,
            f"{self.timing.ratio:.3f}",
            f"{first:.3f}–{third:.3f}",
            f"{self._milliseconds:.1f}",
            f"{self._slow_milliseconds:.1f}",
            f"{statistics.median(self.timing.yardstick_ms):.1f}",
            f"{self.images_per_second:.1f}",
            "–" if memory is None else f"{memory / 1e9:.2f}",
            "–" if share is None else f"{100 * share:.1f} %",
            self.work.yardstick_name,
        ]


_HEADINGS = [
    "part",
    "work",
    "ratio",
    "quartiles",
    "ms",
    "p95",
    "yardstick ms",
    "images/s",
    "GB",
    "bf16 peak",
    "yardstick",
]
_WORDS = {"part", "work", "yardstick"}


def as_table(rows: Sequence[TimingRow]) -> list[str]:
    """Aligned lines, the headings first."""
    cells = [_HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    return ["  ".join(_align(line, widths)).rstrip() for line in cells]


def _align(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if heading in _WORDS else cell.rjust(width)
        for cell, width, heading in zip(line, widths, _HEADINGS, strict=True)
    ]
