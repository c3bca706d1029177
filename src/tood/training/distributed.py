"""The processes that train one run together; one process is the same code with a world of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

_TIMEOUT = timedelta(minutes=30)  # the longest wait is for rank 0 to evaluate


@dataclass(frozen=True)
class Group:
    """This process among its peers: ``rank`` of ``world``, computing on ``device``."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over processes; stays on the device and does not wait for the host."""
        if self.world > 1:
            dist.all_reduce(values, op=dist.ReduceOp.SUM)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, on every process."""
        if self.world == 1:
            return [value]
        gathered: list[Any] = [None] * self.world
        dist.all_gather_object(gathered, value)
        return gathered

    def broadcast(self, value: Any) -> Any:
        """The main process's value, on every process."""
        if self.world == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0)
        return holder[0]

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over processes."""
        if self.world == 1:
            return model
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        live = any(norm.training for norm in norms)
        if self.device.type == "cuda" and live:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=live)

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the main one's running statistics, so that all evaluate the same model."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


@contextmanager
def process_group(device_type: str, index: int = 0) -> Iterator[Group]:
    """Join the group that torchrun's environment describes; alone, on GPU ``index``, where there is none."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    local_rank = int(os.environ.get("LOCAL_RANK", index))
    device = torch.device("cuda", local_rank) if device_type == "cuda" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Group(rank, world, device)
    finally:
        if world > 1:
            dist.destroy_process_group()
