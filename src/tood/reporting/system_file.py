"""Reading ``system.csv``: the load of the machine while a run trained."""

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path


def read_system(path: Path) -> Iterator[Mapping[str, float]]:
    """Rows of numbers by column, ``time`` in seconds among them; what is broken, or being written, is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return
    for row in csv.DictReader(text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]):
        try:
            values = {name: float(cell) for name, cell in row.items()}
        except (TypeError, ValueError):
            continue
        if "time" in values and all(map(math.isfinite, values.values())):
            yield values
