"""The number format of a training: float32, or bf16 autocast where it is asked for."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch


def resolve_precision(precision: str, device: torch.device) -> str:
    """``float32`` or ``bf16``; ``auto`` is bf16 where the hardware computes it natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    flags = _cpu_flags()
    return "bf16" if {"avx512_bf16", "amx_bf16"} & flags else "float32"


def _cpu_flags() -> set[str]:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    except OSError:
        pass
    return set()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """bf16 autocast when asked for; head mathematics stays in float32 by itself."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
