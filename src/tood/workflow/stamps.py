"""Stamps: small files, one for each job, that make Snakemake run exactly the jobs whose results are outdated.

Snakemake runs a job whose input is newer than its output and has another content than the last time. Every rule has
its stamp as an input; all other inputs only determine the order. ``standing.py`` decides whether results are outdated.
"""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tood.io.errors import UserError
from tood.io.read import read_json
from tood.io.write import write_json

_OLD = 1_000_000_000.0  # seconds since 1970: a time before any result


def stamp_path(study: str, rule: str, name: str = "", folder: Path = Path(".snakemake/tood")) -> Path:
    """The stamp of a rule of a study, or of one of its runs."""
    return folder / study.replace("/", "_") / (f"{rule}-{name}.json" if name else f"{rule}.json")


def judged_stamp(path: Path, wanted: Any, because: Sequence[str]) -> None:
    """Write the stamp of results made from ``wanted``; ``because`` lists the differences that make them outdated."""
    if not because:
        _write_unless_equal(path, {"wanted": wanted})
        os.utime(path, (_OLD, _OLD))
        return
    content = {"wanted": wanted, "because": list(because)}
    kept = _read_stamp(path)
    if {name: kept.get(name) for name in content} != content or path.stat().st_mtime == _OLD:
        write_json(path, {**content, "noticed": time.time_ns()})


def runs_anyway(stamp: Path, result: Path) -> bool:
    """Whether a job with a stamp of ``judged_stamp`` runs for a reason of its own: outdated or missing results."""
    return not result.exists() or "because" in _read_stamp(stamp)


def changing_stamp(path: Path, wanted: Any) -> None:
    """Write the stamp of results that are quick to make, and are made again whenever ``wanted`` changes."""
    _write_unless_equal(path, {"wanted": wanted})


def read_kept(path: Path) -> dict[str, str]:
    """What a changing stamp was written for, by name; empty without one."""
    wanted = _read_stamp(path).get("wanted")
    return wanted if isinstance(wanted, dict) else {}


def _write_unless_equal(path: Path, content: dict[str, Any]) -> None:
    if _read_stamp(path) != json.loads(json.dumps(content)):
        write_json(path, content)


def _read_stamp(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}
