"""Devices (GPUs, CPU) of a run: detection, checks, leases, names."""

import importlib.metadata
import logging
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from tood.io.errors import UserError
from tood.io.lock import try_lock
from tood.training.precision import cpu_field
from tood.training.processes.gpus import visible_gpus

log = logging.getLogger(__name__)

_LEASE_PAUSE = 1.0  # seconds


def resolve_gpus(requested: str) -> int:
    """Number of GPUs for ``auto`` or a number; UserError when there are fewer, or none that torch can use.

    One of the parts into which a GPU is divided (MIG): a training cannot join several, since CUDA shows a process one.
    """
    found = 1 if _are_parts(_visible_names()) and torch.version.cuda else _whole_gpus()
    if requested == "auto":
        shown = visible_gpus()
        if shown and not found:
            raise _unusable(f"{shown} GPUs", "driver or build")
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

    Snakemake counts GPUs but does not assign them, so concurrent runs do it with one lock file per device.
    """
    names = _visible_names()
    # Slurm shows every job GPUs of its own, which all begin to count at 0.
    job = os.environ.get("SLURM_JOB_ID", "")
    folder = Path(tempfile.gettempdir()) / f"tood-gpus-{os.getuid()}{'-' if job else ''}{job}"
    with ExitStack() as stack:
        leased: list[str] = []
        waiting = False
        while len(leased) < count:
            for name in names:
                if name not in leased and len(leased) < count:
                    lock = try_lock(folder / f"{name}.lock")
                    if lock is not None:
                        stack.callback(lock.release)
                        leased.append(name)
            if len(leased) < count:
                if not waiting:
                    log.info("waiting for %d of %d GPUs that other runs work on", count, len(names))
                waiting = True
                # Give back what others may be waiting for, then queue again.
                stack.close()
                leased.clear()
                time.sleep(_LEASE_PAUSE * (1 + os.getpid() % 7))
        yield leased


def use_gpu(name: str) -> torch.device:
    """Make a leased GPU the current device of this process, which has not computed on one before.

    UserError where PyTorch cannot use it. By its name, since a process has to name the part of a divided GPU (MIG)
    that it wants before it first uses CUDA, and threads of this process take the current device.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = name
    device = torch.device("cuda", 0)
    try:
        torch.cuda.set_device(device)
    except (RuntimeError, AssertionError) as error:
        raise _unusable(f"GPU {name}", " ".join(str(error).split())[:200]) from error
    return device


def _unusable(shown: str, why: str) -> UserError:
    return UserError(
        f"gpu: this machine shows {shown}, which PyTorch cannot use ({why}); correct that, or set gpu to 0 to train on "
        "the CPU."
    )


def _whole_gpus() -> int:
    """How many torch can use, asked without starting CUDA in this process."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _are_parts(names: Sequence[str]) -> bool:
    return bool(names) and names[0].startswith("MIG-")


def _visible_names() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        return [name.strip() for name in visible.split(",")]
    return [str(index) for index in range(torch.cuda.device_count())]


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_field("model name") or platform.processor() or platform.machine()


def versions(device: torch.device) -> dict[str, str]:
    """Versions of libraries and device: two runs that differ in them may differ in their last digits."""
    return {
        "torch": torch.__version__,
        "torchvision": importlib.metadata.version("torchvision"),
        "processor": device_name(device),
    }


@contextmanager
def one_device(gpu: str) -> Iterator[torch.device]:
    """A single device for inference: a leased GPU if there is one and it is wanted, the CPU otherwise."""
    if min(resolve_gpus(gpu), 1) == 0:
        yield torch.device("cpu")
        return
    with lease_gpus(1) as names:
        yield use_gpu(names[0])
