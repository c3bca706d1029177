"""What a step found, as rows of one table, and how it is kept."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Row:
    """One figure; ``ok`` says whether it keeps what is promised, None where nothing is."""

    what: str
    value: float | str
    unit: str = ""
    promised: str = ""
    ok: bool | None = None

    def line(self) -> str:
        value = self.value if isinstance(self.value, str) else f"{self.value:.4g}"
        state = {True: "kept", False: "NOT KEPT", None: ""}[self.ok]
        return f"| {self.what} | {value} {self.unit} | {self.promised} | {state} |"


@dataclass(frozen=True)
class Place:
    """Where steps compute, and whether only to see that they run: on small inputs, with few repetitions."""

    device: torch.device
    small: bool

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def forget(self) -> None:
        """Give memory back before the next figure is taken."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)


def at_most(what: str, value: float, most: float, unit: str = "") -> Row:
    return Row(what, value, unit, f"at most {most:g}", value <= most)


def at_least(what: str, value: float, least: float, unit: str = "") -> Row:
    return Row(what, value, unit, f"at least {least:g}", value >= least)


def keep(path: Path, seconds: float, rows: Sequence[Row]) -> None:
    content = {"seconds": round(seconds, 1), "rows": [asdict(row) for row in rows]}
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def kept(path: Path) -> list[Row] | None:
    """None if the step did not end."""
    if not path.is_file():
        return None
    return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]


def table(parts: Iterable[tuple[str, list[Row] | None]]) -> str:
    lines = ["| what | figure | promised | |", "|---|---|---|---|"]
    for step, rows in parts:
        lines += [row.line() for row in rows] if rows is not None else [f"| {step} | did not end | | NOT MEASURED |"]
    return "\n".join(lines)
