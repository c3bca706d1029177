"""Comparisons: one row per quantity, with the largest error and the verdict."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

Values = torch.Tensor | NDArray[np.generic] | Sequence[float] | float | int
Arrays = NDArray[np.float64]
Room = Mapping[str, Sequence[Arrays]]
"""By quantity: how far each of its values may be off whatever the tolerance."""


class UnsupportedError(Exception):
    """A reference that needs something this project does not have (yet), or a file that breaks the format."""


@dataclass(frozen=True)
class Tolerance:
    """Allowed |error|: absolute + relative * |expected| + shares of the largest |expected|."""

    absolute: float = 0.0
    relative: float = 0.0
    own_peak: float = 0.0
    common_peak: float = 0.0

    def __str__(self) -> str:
        parts = [
            (self.absolute, ""),
            (self.relative, " rel"),
            (self.own_peak, " of peak"),
            (self.common_peak, " of all peaks"),
        ]
        return " + ".join(f"{value:g}{unit}" for value, unit in parts if value) or "exact"

    def allowed(self, expected: Arrays, common_peak: float) -> Arrays:
        peaks = self.own_peak * _peak(expected) + self.common_peak * common_peak
        return self.absolute + self.relative * np.abs(expected) + peaks


EXACT = Tolerance()


@dataclass(frozen=True)
class Row:
    case: str
    quantity: str
    absolute: float
    relative: float
    tolerance: str
    passed: bool


@dataclass
class Report:
    """Rows of one case; ``at`` names the instance that rows belong to from then on."""

    case: str
    rows: list[Row] = field(default_factory=list)
    prefix: str = ""
    _measure_room: Callable[[], Room] | None = None

    def at(self, prefix: str) -> None:
        self.prefix = prefix

    @contextmanager
    def with_room(self, measure: Callable[[], Room]) -> Iterator[None]:
        """Within, a value may be off by its tolerance or, where that is more, by the room measured for it.

        Ill-conditioned values need this (see ``rounding``). It is measured, once, when a quantity is beyond its
        tolerance; wherever none is, nothing changes.
        """
        self._measure_room = cache(measure)
        try:
            yield
        finally:
            self._measure_room = None

    def compare(self, quantity: str, ours: Values, expected: Values, tolerance: Tolerance) -> None:
        self.compare_all(quantity, [ours], [expected], tolerance)

    def compare_all(
        self, quantity: str, ours: Sequence[Values], expected: Sequence[Values], tolerance: Tolerance
    ) -> None:
        """Compare several arrays (the levels of a pyramid, say) in one row."""
        pairs = [(as_array(a), as_array(b)) for a, b in zip(ours, expected, strict=True)]
        wrong = next((f"shape {a.shape} not {b.shape}" for a, b in pairs if a.shape != b.shape), None)
        if wrong is not None:
            self.fail(quantity, wrong)
            return
        common = max((_peak(b) for _, b in pairs), default=0.0)
        errors = [_error(a, b) for a, b in pairs]
        allowed = [tolerance.allowed(b, common) for _, b in pairs]
        text = str(tolerance)
        if self._measure_room is not None and not _within(errors, allowed):
            room = self._measure_room()[quantity]
            allowed = [np.fmax(a, r) for a, r in zip(allowed, room, strict=True)]
            text += f", or up to {max(map(_peak, room)):.2g} for rounding"
        absolute = max((_peak(error) for error in errors), default=0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = [np.where(error > 0, error / np.abs(b), 0.0) for error, (_, b) in zip(errors, pairs, strict=True)]
        relative = max(map(_peak, ratios), default=0.0)
        passed = _within(errors, allowed)
        self.rows.append(Row(self.case, self.prefix + quantity, absolute, relative, text, passed))

    def count(self, quantity: str, wrong: int, total: int, allowed: float = 0.0) -> None:
        """So many of so many things differ; the share ``allowed`` may."""
        share = wrong / max(1, total)
        text = "exact" if allowed == 0 else f"{allowed:g} may differ"
        self.rows.append(Row(self.case, self.prefix + quantity, wrong, share, text, share <= allowed))

    def fail(self, quantity: str, why: str) -> None:
        self.rows.append(Row(self.case, self.prefix + quantity, np.inf, np.inf, why, False))


def as_array(values: Values) -> Arrays:
    if isinstance(values, torch.Tensor):
        values = values.detach().double().numpy()
    return np.asarray(values, dtype=np.float64)


def _error(ours: Arrays, expected: Arrays) -> Arrays:
    same = (ours == expected) | (np.isnan(ours) & np.isnan(expected))
    error = np.where(same, 0.0, np.abs(ours - expected))
    return np.where(np.isnan(error), np.inf, error)


def _within(errors: Sequence[Arrays], allowed: Sequence[Arrays]) -> bool:
    return all(bool((error <= most).all()) for error, most in zip(errors, allowed, strict=True))


def _peak(values: Arrays) -> float:
    return float(np.abs(values).max(initial=0.0))


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    cells = [("case", "quantity", "max abs", "max rel", "tolerance", "")]
    cells += [
        (
            row.case,
            row.quantity,
            f"{row.absolute:.2g}",
            f"{row.relative:.2g}",
            row.tolerance,
            "pass" if row.passed else "FAIL",
        )
        for row in rows
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in cells)
