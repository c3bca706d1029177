"""How many processes read images for a training: as many as are wanted, and as the memory suffices for."""

from tood.config.study import RunConfig
from tood.data.batch_processes import AHEAD
from tood.data.dataset import DetectionDataset
from tood.data.input_sizes import padded_size
from tood.io.console import run_log
from tood.io.free_memory import free_memory
from tood.training.processes.distributed import Group, local_processes
from tood.training.processes.machine import Machine

_BYTES = 4  # of a float32; for GPUs images stay bytes
_CHANNELS = 3
_ENOUGH = 8  # processes that one GPU is not too fast for


def threads_of_each(machine: Machine) -> int:
    """The threads of each process of this training on this machine."""
    return max(1, machine.threads // local_processes())


def count_workers(config: RunConfig, dataset: DetectionDataset, machine: Machine, group: Group) -> int:
    """The workers of this process; said in the log if they are fewer than wanted, which changes no result."""
    wanted = machine.workers
    if wanted is None:
        # A GPU must not wait for decoding; on the CPU a worker would only take the core that trains.
        wanted = min(_ENOUGH, threads_of_each(machine)) if group.device.type == "cuda" else 0
    if not wanted or not len(dataset):
        return 0
    images, free = config.schedule.batch // group.world, free_memory() // local_processes()
    each = largest_batch(dataset, images) // (_BYTES if group.device.type == "cuda" else 1)
    count = min(wanted, affordable(each, free))
    if count < wanted:
        run_log(__name__, config.run).info(
            "reads images in %d instead of %d processes (--workers), whose batches would take %.2f GB of memory, and "
            "%.2f GB are free; smaller batches or inputs need less",
            count,
            wanted,
            _bytes_of(wanted, each) / 1e9,
            free / 1e9,
        )
    return count


def largest_batch(dataset: DetectionDataset, images: int) -> int:
    """Bytes of the largest batch of one orientation with so many images."""
    landscape = dataset.targets.widths >= dataset.targets.heights
    sizes = dataset.largest_input_sizes()
    padded = [padded_size(*sizes[kind].max(0).tolist()) for kind in (landscape, ~landscape) if kind.any()]
    return max(width * height for width, height in padded) * images * _CHANNELS * _BYTES


def affordable(each: int, free: int) -> int:
    """The workers whose batches of ``each`` bytes fit into so many bytes."""
    return max(0, (free // each - 1) // (AHEAD + 1))


def _bytes_of(workers: int, each: int) -> int:
    """A worker has ``AHEAD`` batches ready and fills one more; besides, one is computed with."""
    return each * (workers * (AHEAD + 1) + 1)
