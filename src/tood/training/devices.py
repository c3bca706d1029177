"""Which devices a run computes on: found, checked, leased, named."""

import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from tood.errors import UserError

_LEASE_PAUSE = 1.0  # seconds


def resolve_gpus(requested: str) -> int:
    """Number of GPUs for ``auto`` or a number; UserError when there are fewer."""
    found = torch.cuda.device_count()
    if requested == "auto":
        return found
    if not requested.isdecimal():
        raise UserError(f"gpu: '{requested}' must be 'auto' or a whole number (0 trains on the CPU).")
    wanted = int(requested)
    if wanted > found:
        raise UserError(f"gpu: {wanted} asked for but this machine has {found}; set gpu to at most {found}.")
    return wanted


@contextmanager
def lease_gpus(count: int) -> Iterator[list[str]]:
    """Reserve ``count`` GPUs that no other run of this user works on, waiting for them; yields their names.

    Snakemake counts GPUs but never says which, so runs side by side settle it with one lock file a device.
    """
    names = _visible_names()
    folder = Path(tempfile.gettempdir()) / f"tood-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        leased: list[str] = []
        while len(leased) < count:
            for name in names:
                if name not in leased and len(leased) < count:
                    try:
                        stack.enter_context(FileLock(folder / f"{name}.lock").acquire(timeout=0))
                    except Timeout:
                        continue
                    leased.append(name)
            if len(leased) < count:
                # Give back what others may be waiting for, then queue again.
                stack.close()
                leased.clear()
                time.sleep(_LEASE_PAUSE * (1 + os.getpid() % 7))
        yield leased


def _visible_names() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _cpu_name()


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


@contextmanager
def one_device(gpu: str) -> Iterator[torch.device]:
    """A single device for inference: a leased GPU if there is one and it is wanted, the CPU otherwise."""
    if min(resolve_gpus(gpu), 1) == 0:
        yield torch.device("cpu")
        return
    with lease_gpus(1) as names:
        position = _visible_names().index(names[0])
        yield torch.device("cuda", position)
