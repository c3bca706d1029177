"""Published numbers in tables: beside ours with the difference, and in a block of their own.

They are kept apart from measured numbers: none enters a ``ComparedRow``, so none is ranked, set in bold, resampled or
mirrored.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tood.config.published_table import PublishedTable, PublishedValue
from tood.reporting.comparison import MEASURED, ComparedRow, Comparison, ComparisonStudy
from tood.reporting.wording import NONE

_COSTS = {
    "head_parameters": "head params (M)",
    "parameters": "params (M)",
    "head_gflops": "head GFLOPs",
    "gflops": "GFLOPs",
}


@dataclass(frozen=True)
class Printed:
    """One published value. ``name`` is the row for readers, ``source`` the number of its footnote.

    ``delta`` is our AP minus it, a fraction; None if the two were not measured alike or it belongs to no row of ours.
    ``unlike`` says how the measurements differ.
    """

    row: str
    name: str
    value: PublishedValue
    source: int
    delta: float | None = None
    unlike: str = ""

    @property
    def text(self) -> str:
        """The cell beside ours: AP, footnote, and what keeps it from being compared."""
        return ", ".join(part for part in (f"{self.value.AP:.1f} [{self.source}]", self.unlike) if part)


@dataclass(frozen=True)
class PublishedView:
    """A table of published numbers beside a comparison: ``beside`` by row of the study, ``others`` in file order."""

    table: PublishedTable
    sources: tuple[str, ...]
    beside: Mapping[str, Printed]
    others: tuple[Printed, ...]

    def values(self) -> list[Printed]:
        """All of them, the rows in the order of the file, what stands beside ours first in its row."""
        return [
            one
            for row in self.table.rows
            for one in (*([self.beside[row]] if row in self.beside else []), *self.others)
            if one.row == row
        ]


def comparable(study: ComparisonStudy) -> bool:
    """Whether the study names published numbers and runs, as written, on the data set that they are for."""
    return study.published is not None and "@" not in study.name and study.dataset == study.published.dataset


def published_view(comparison: Comparison) -> PublishedView | None:
    """What is printed of the study's published numbers; None where there are none, or none that compare."""
    study = comparison.study
    if study.published is None or not comparable(study):
        return None
    table, split = study.published, study.split.name
    numbers = {key: number for number, key in enumerate(table.sources, start=1)}
    ours = {row.name: row for row in comparison.rows}
    beside: dict[str, Printed] = {}
    others: list[Printed] = []
    for name, row in table.rows.items():
        chosen = None
        if name in ours:
            chosen = next((value for value in row.values if not _unlike(value, ours[name], split)), row.values[0])
            beside[name] = _beside(name, chosen, numbers[chosen.source], ours[name], split)
        label = name if name in ours else row.label or name
        others += [Printed(name, label, value, numbers[value.source]) for value in row.values if value is not chosen]
    return PublishedView(table, tuple(table.sources.values()), beside, tuple(others))


def _beside(name: str, value: PublishedValue, source: int, ours: ComparedRow, split: str) -> Printed:
    unlike = _unlike(value, ours, split)
    published, measured = value.fraction("AP"), ours.stats["AP"]
    delta = None if unlike or published is None or measured is None else measured - published
    return Printed(name, name, value, source, delta, unlike)


def _unlike(value: PublishedValue, ours: ComparedRow, split: str) -> str:
    """In which way the value was not measured as ours was; empty if alike."""
    if value.split != split:
        return value.split
    if value.epochs is None:
        return "epochs unknown"
    return value.note if value.epochs == ours.epochs else f"{value.epochs} epochs"


def published_cells(view: PublishedView) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the block of published numbers; columns in which there is nothing are left out."""
    values = view.values()
    stats = [name for name in MEASURED if any(getattr(one.value, name) is not None for one in values)]
    costs = [name for name in _COSTS if any(getattr(one.value, name) is not None for one in values)]
    header = ["published row", "source", "split", "epochs", *stats, *(_COSTS[name] for name in costs)]
    lines = []
    for one in values:
        source = f"[{one.source}]" + (f" {one.value.note}" if one.value.note else "")
        numbers = [_number(getattr(one.value, name), 1) for name in stats]
        numbers += [_number(getattr(one.value, name), 2) for name in costs]
        lines.append([one.name, source, one.value.split, str(one.value.epochs or NONE), *numbers])
    return header, lines


def _number(value: float | None, digits: int) -> str:
    """As it was printed: AP with one digit, costs with two."""
    return NONE if value is None else f"{value:.{digits}f}"


BESIDE_NOTE = (
    "Published AP was measured by others, its source is the footnote in brackets. Δ published is our AP minus it in "
    "percentage points, given only where it was measured on the same split after as many epochs."
)
BLOCK_NOTE = (
    "Published numbers, AP in percent: none of them was measured here, and none counts in the ranking, the bold values "
    "or the conclusion above."
)


def incomparable_note(comparison: Comparison) -> str:
    """Why the study's published numbers are not shown; empty where they are, or where it names none."""
    study = comparison.study
    if study.published is None or comparable(study):
        return ""
    return (
        f"No published numbers stand here: those of {study.published.name} ({study.published.title}) are for COCO "
        f"({study.published.dataset}) and the study's own backbones and schedules, so they are not comparable with "
        f"{study.name} on {study.dataset}."
    )
