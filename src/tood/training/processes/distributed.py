"""Distributed training: the process group of one run; a single process is the same code with a world of one."""

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

from tood.detection.backbones import synchronised
from tood.io.shared_constants import MEETING
from tood.training.processes.stopping import PATIENCE


@dataclass(frozen=True)
class Group:
    """This process among its peers: ``rank`` of ``world``, computing on ``device``."""

    rank: int
    world: int
    device: torch.device
    patience: float = PATIENCE
    """Seconds after which a process that waits for its peers fails."""

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

    def wrap(self, model: nn.Module, *, during_backward: bool = True) -> nn.Module:
        """The model that all processes begin with; on GPUs gradients are averaged ``during_backward``, if wanted."""
        if self.world == 1:
            return model
        if self.device.type == "cpu" or not during_backward:
            for value in model.state_dict().values():
                dist.broadcast(value, src=0)
            return model
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        live = any(norm.training for norm in norms)
        if live:
            model = synchronised(model)
        return DistributedDataParallel(model, device_ids=[self.device.index], broadcast_buffers=live)

    def average_gradients(self, model: nn.Module) -> None:
        """Average the gradients of a model that ``wrap`` gave, over processes, unless the backward pass did.

        All at once and after it: on CPUs an exchange during it takes the cores away from it, a fifth to a third of a
        step, and on GPUs a CUDA graph holds the backward pass.
        """
        if self.world == 1 or isinstance(model, DistributedDataParallel):
            return
        gradients = [value.grad for value in model.parameters() if value.grad is not None]
        together = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(together, op=dist.ReduceOp.SUM)
        parts = together.div_(self.world).split([gradient.numel() for gradient in gradients])
        shaped = [part.view(gradient.shape) for part, gradient in zip(parts, gradients, strict=True)]
        torch._foreach_copy_(gradients, shaped)

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the main one's running statistics, so that all evaluate the same model."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


class Agreement:
    """A flag on which all processes agree at the same call, although each sets it at a different time.

    The flag is reduced between the hosts while the devices compute, and the result is read one call later, so that
    no process waits for it.
    """

    def __init__(self, group: Group) -> None:
        self._hosts: Any = None
        if group.world > 1:
            self._hosts = dist.new_group(backend="gloo", timeout=timedelta(seconds=group.patience))
        self._asked: tuple[Any, Tensor] | None = None

    def any(self, here: bool) -> bool:
        """Whether any process said yes by the call before this one (by this one, where there is one process)."""
        if self._hosts is None:
            return here
        said = torch.tensor([int(here)])
        work = dist.all_reduce(said, op=dist.ReduceOp.MAX, group=self._hosts, async_op=True)
        before, self._asked = self._asked, (work, said)
        if before is None:
            return False
        before[0].wait()
        return bool(before[1])


def _meeting_place() -> str:
    """The store through which processes find each other: a file on one machine, torchrun's server for several."""
    folder = os.environ.get(MEETING)
    return f"file://{folder}/attempt-{os.environ['TORCHELASTIC_RESTART_COUNT']}" if folder else "env://"


def is_writer() -> bool:
    """Whether this process writes the files of the training (rank 0)."""
    return os.environ.get("RANK", "0") == "0"


def local_processes() -> int:
    """The processes of this training on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def process_group(device_type: str, patience: float = PATIENCE) -> Iterator[Group]:
    """Join the group that torchrun's environment describes; alone, on the first visible GPU, where there is none.

    A process that waits for its peers longer than ``patience`` seconds fails. Where the block raises, the group is
    left as it is, for taking it down waits for the peers, who do not know yet: this process must end soon.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank) if device_type == "cuda" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world > 1:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=_meeting_place(),
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=patience),
        )
    yield Group(rank, world, device, patience)
    if world > 1:
        dist.destroy_process_group()
