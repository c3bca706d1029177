"""List files (one image per line) and overlaps between splits, for the formats that have them."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tood.data.findings import Findings
from tood.io.errors import UserError
from tood.io.read import read_bytes

_Key = TypeVar("_Key", bound=Hashable)


def read_lines(path: Path, findings: Findings, advice: str) -> list[str] | None:
    """Non-empty lines of a list file; None (and an error) if it cannot be read."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        findings.error(path, "is not a text in UTF-8; save it as UTF-8")
        return None
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ").rstrip(".")
        findings.error(path, f"{reason}; {advice}" if reason == "no such file" else reason)
        return None
    return [line.strip() for line in text.splitlines() if line.strip()]


def repeated(values: Iterable[_Key]) -> list[_Key]:
    """Values that occur more than once, in the order of their first occurrence."""
    return [value for value, count in Counter(values).items() if count > 1]


def report_overlap(members: Mapping[str, Sequence[str]], findings: Findings) -> None:
    """Note images that several splits list, since results on images seen in training mean nothing."""
    splits: dict[str, list[str]] = {}
    for name, keys in members.items():
        for key in keys:
            splits.setdefault(key, []).append(name)
    for key, names in splits.items():
        if len(names) > 1:
            findings.note(key, f"is in more than one split ({', '.join(names)})")
