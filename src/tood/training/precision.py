"""Which number format a training computes in."""

from pathlib import Path

import torch

from tood.io.errors import UserError


def resolve_precision(precision: str, device: torch.device) -> str:
    """``float32``, ``tf32`` or ``bf16``; ``auto`` is bf16 where the hardware computes it natively.

    Raises UserError for TF32 on a CPU.
    """
    if precision == "tf32" and device.type != "cuda":
        raise UserError("schedule.precision: 'tf32' is a number format of GPUs; use float32, bf16 or auto on a CPU.")
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
