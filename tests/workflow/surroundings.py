"""Disks that are full or may not be written, made for a test: small ones of memory where that is permitted."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Path]:
    """A disk of ``size`` at ``folder``; skips the test where this user may not mount one."""
    folder.mkdir(exist_ok=True)
    mount(folder, "-t", "tmpfs", "-o", f"size={size}", "none")
    try:
        yield folder
    finally:
        while folder.is_mount():
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_read_only(disk: Path) -> None:
    """From now on, also for root, whom the modes of files do not stop, and whatever is open there."""
    mount(disk, "--bind", str(disk))
    mount(disk, "-o", "remount,ro,bind")


def fill(disk: Path) -> Path:
    """Take all that is left of a disk; returns the file that does."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as handle:
        try:
            while True:
                handle.write(bytes(1 << 16))
        except OSError:
            return filler


def mount(folder: Path, *arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs the command 'mount'")
    if done.returncode:
        pytest.skip(f"needs the right to mount a small disk ({done.stderr.strip()})")
