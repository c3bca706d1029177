"""List files (one image per line) and overlaps between splits, for the formats that have them."""

from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

from tood.data.findings import Findings
from tood.io.errors import UserError
from tood.io.text import lines_of, read_text, without_path

_Key = TypeVar("_Key", bound=Hashable)


class Line(NamedTuple):
    """A line of a file; ``number`` is the one that editors show."""

    number: int
    text: str


def read_lines(path: Path, findings: Findings, advice: str) -> list[Line] | None:
    """Lines of a file that are not blank, without space around them; None (and an error) if it cannot be read."""
    try:
        text = read_text(path)
    except UserError as error:
        reason = without_path(error, path)
        findings.error(path, f"{reason}; {advice}" if reason == "no such file" else reason)
        return None
    lines = [Line(number, line.strip()) for number, line in enumerate(lines_of(text), start=1)]
    return [line for line in lines if line.text]


def repeated(values: Iterable[_Key]) -> list[_Key]:
    """Values that occur more than once, in the order of their first occurrence."""
    return [value for value, count in Counter(values).items() if count > 1]
