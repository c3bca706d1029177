"""GPUs of this machine, counted without loading PyTorch."""

import os
from pathlib import Path


def visible_gpus() -> int:
    """GPUs that this machine shows, or CUDA_VISIBLE_DEVICES leaves."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()])
