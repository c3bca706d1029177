"""Memory that is free for this process."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_GROUPS = Path("/sys/fs/cgroup")
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, what is taken, and the cached files in that, which give way: of version 2 and of version 1."""


def free_memory() -> int:
    """Bytes that are free in the machine and in the control groups of this process (its container, its job step)."""
    machine: int = psutil.virtual_memory().available
    return max(0, min([machine, *_left_in_groups(_own_folders())]))


def _own_folders() -> set[Path]:
    """Folders of the control groups that limit memory: this process's own and those around it."""
    found = {_GROUPS, _GROUPS / "memory"}
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kind, place = line.split(":", 2)
            if kind in ("", "memory"):
                own = Path(f"{_GROUPS / kind}/{place}")
                found |= {own, *(folder for folder in own.parents if folder.is_relative_to(_GROUPS))}
    return found


def _left_in_groups(folders: set[Path]) -> Iterator[int]:
    for folder in folders:
        for limit, taken, cached in _FILES:
            with suppress(OSError, ValueError):  # not of this version, or "max"
                most = int((folder / limit).read_text())
                rows = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                yield most - int((folder / taken).read_text()) + int(rows.get(cached, 0))
