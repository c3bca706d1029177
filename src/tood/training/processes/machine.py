"""Machine resources of a training (GPUs, processes, threads, nodes), and the runs that they suffice for.

A step's images are shared out evenly, so processes and GPUs are a number that divides them.
"""

from dataclasses import dataclass

from tood.config.study import RunConfig
from tood.io.errors import UserError
from tood.training.processes.gpus import even_shares
from tood.training.processes.stopping import PATIENCE

_MANY_IMAGES = 2000  # from which on a training takes long enough for processes to be worth starting


@dataclass(frozen=True)
class Machine:
    """Resources that this training may use on this machine and on others."""

    gpu: str = "auto"
    processes: int | None = None
    """On the CPU; None leaves the number to the training."""
    threads: int = 1
    workers: int | None = None
    accumulate: int | None = None
    """Parts in which each process computes its share of a step, for batches that do not fit in memory.

    None means one, or if a training continues on fewer processes, as many as keep the memory of each process.
    """
    nodes: int = 1
    rendezvous: str | None = None
    """``host:port`` at which the nodes meet."""
    patience: float = PATIENCE
    """Seconds to wait for a process that does not answer."""

    def processes_for(self, config: RunConfig, gpus: int, images: int) -> int:
        """Processes of a training that sees so many images, one for each of the GPUs if there are any.

        On the CPU, several processes of one thread are faster than one process of several threads, but take seconds to
        start. A single one computes what depends on the images that are computed together.
        """
        if gpus or self.processes:
            return max(gpus, self.processes or 1)
        schedule = config.schedule
        depends = schedule.groups < 2 and config.method.criterion.over == "group"
        depends = depends or not config.backbone.frozen_statistics
        if self.nodes > 1 or images < _MANY_IMAGES or depends:
            return 1
        return even_shares(schedule.groups if schedule.groups > 1 else schedule.batch, self.threads)

    def refuse_impossible(self, config: RunConfig, gpus: int, processes: int) -> None:
        """Raise UserError if the run cannot be trained in ``processes`` processes and on ``gpus`` GPUs per node."""
        if gpus and (self.processes or 1) > 1 and self.processes != gpus:
            raise UserError(f"--processes {self.processes}: with GPUs there is one process each; leave it out.")
        if self.nodes > 1 and self.rendezvous is None:
            raise UserError(f"--nodes {self.nodes}: say where they meet, with --rendezvous HOST:PORT of one of them.")
        if self.nodes == 1 and self.rendezvous is not None:
            raise UserError(
                f"--rendezvous {self.rendezvous}: is where several machines meet; say how many with --nodes."
            )
        world = processes * self.nodes
        if config.schedule.batch % world:
            raise UserError(
                f"study '{config.study}', run '{config.run}': schedule.batch {config.schedule.batch} "
                f"cannot be split over {world} processes; use a number that divides it."
            )
        share, together = config.schedule.batch // world, config.schedule.group or config.schedule.batch
        if share % together and together % share:
            raise UserError(
                f"study '{config.study}', run '{config.run}': schedule.group {together} cannot be shared out to "
                f"processes of {share} images; use another number of processes, or a group that divides {share}."
            )
        parts = self.accumulate or 1
        if share % parts:
            raise UserError(
                f"--accumulate {parts}: cannot split the {share} images that each process has per step "
                f"(schedule.batch {config.schedule.batch}); use a number that divides them."
            )
        at_once = share // parts
        if config.method.criterion.over == "group" and at_once % together:
            raise UserError(
                f"study '{config.study}', run '{config.run}': criterion.kind '{config.method.criterion.kind}' compares "
                f"the images of a group, here {together} (schedule.group, by default schedule.batch), but {at_once} "
                f"would be computed at once; use fewer processes and a smaller --accumulate, or set schedule.group to "
                f"a number that divides {at_once}."
            )
