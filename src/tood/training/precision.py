"""Numeric precision of a training: float32, or bf16 autocast where the schedule asks for it."""

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
    flags = set(cpu_field("flags").split())
    return "bf16" if {"avx512_bf16", "amx_bf16"} & flags else "float32"


def cpu_field(name: str) -> str:
    """A field of the first processor in /proc/cpuinfo, empty where there is none."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(name):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return ""


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """bf16 autocast when asked for; head mathematics stays in float32 by itself."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
