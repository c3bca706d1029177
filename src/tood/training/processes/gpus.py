"""Counting the GPUs of this machine and those that a batch can use, without importing PyTorch."""

import os
from pathlib import Path


def visible_gpus() -> int:
    """Number of GPUs of this machine, or of those in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()])


def even_shares(batch: int, most: int) -> int:
    """The largest number, at most ``most``, of equal shares of a step's images."""
    return next(shares for shares in range(max(1, min(batch, most)), 0, -1) if batch % shares == 0)
