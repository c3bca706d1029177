"""Training history (``history.csv``): losses, learning rate, speed and AP, one row per logging interval."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tood.io.write import write_text

_FIRST = ("step", "epoch", "time", "lr", "loss")
_LAST = ("val_AP", "val_AP50", "val_AP75", "images_per_second")


@dataclass
class History:
    """Rows by column name; rewritten as a whole, so the file is never half a row."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def add(self, row: Mapping[str, float]) -> None:
        self.rows.append(dict(row))

    def columns(self) -> list[str]:
        seen = {name for row in self.rows for name in row}
        terms = sorted(seen - {*_FIRST, *_LAST})  # loss terms, whose names each criterion chooses
        return [*_FIRST, *terms, *_LAST]

    def write(self, path: Path) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns(), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in self.rows)
        write_text(path, text.getvalue())


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}" if abs(value) < 1e8 else f"{value:.3f}"
