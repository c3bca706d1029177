"""Training steps whose images are padded by groups, beside steps padded as a whole; pictures of a real data set."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice

from tood.benchmarks.timing import Work
from tood.benchmarks.workloads import AFTER_WARMUP, RATE, Setup, detector_for
from tood.config.backbone import BackboneConfig
from tood.config.images import ImagesConfig
from tood.config.method import MethodConfig
from tood.config.schedule import ScheduleConfig
from tood.data.batch import Batch
from tood.data.dataset import DetectionDataset
from tood.data.loader import train_batches
from tood.detection.detector import build_criterion
from tood.training.optim import build_optimiser, set_learning_rate
from tood.training.processes.distributed import Group
from tood.training.step import StepLosses, step_gradient

Step = tuple[Batch, ...]


@dataclass(frozen=True, eq=False)
class DrawnSteps:
    """Where the steps come from."""

    dataset: DetectionDataset
    schedule: ScheduleConfig
    """With its group."""
    steps: int
    """So many are drawn, and taken one after the other; both kinds from the same shuffled epoch."""

    def of(self, group: int | None) -> list[Step]:
        """Steps of images in such groups, by default of whole steps."""
        seed, batch = self.dataset.seed, self.schedule.batch
        drawn: list[Step] = []
        for epoch in range(self.steps):
            batches = train_batches(self.dataset, batch=batch, seed=seed, epoch=epoch, rank=0, world=1, group=group)
            drawn += islice(batches, self.steps - len(drawn))
            if len(drawn) == self.steps:
                break
        return drawn


def scaled(images: ImagesConfig, short: int, long: int) -> ImagesConfig:
    """The same inputs at another size, their jitter in proportion."""
    jitter = images.jitter
    if jitter is not None:
        low, high = (max(32, round(side * short / images.short)) for side in jitter)
        jitter = (low, high)
    return images.model_copy(update={"short": short, "long": long, "jitter": jitter})


def group_works(
    methods: list[MethodConfig], backbone: BackboneConfig, drawn: DrawnSteps, setup: Setup
) -> Iterator[Work]:
    """A step in groups of the schedule beside a step as a whole, for each method."""
    group = drawn.schedule.group
    grouped, whole = drawn.of(group), drawn.of(None)
    for method in methods:
        run, yardstick = (
            _training_steps(method, backbone, drawn.schedule, steps, count, setup)
            for steps, count in ((grouped, drawn.schedule.groups), (whole, 1))
        )
        name = f"{method.name}, groups of {group}"
        yield Work("groups", name, "the whole step padded alike", run, yardstick, drawn.schedule.batch)


def _training_steps(
    method: MethodConfig,
    backbone: BackboneConfig,
    schedule: ScheduleConfig,
    steps: list[Step],
    groups: int,
    setup: Setup,
) -> Callable[[], object]:
    detector = detector_for(method, backbone, setup, training=True).train()
    criterion, optimiser = build_criterion(method), build_optimiser(detector, schedule)
    set_learning_rate(optimiser, RATE)
    group = Group(rank=0, world=1, device=setup.device)
    following = cycle(steps)

    def run() -> StepLosses:
        batches = [batch.to(setup.device) for batch in next(following)]
        optimiser.zero_grad(set_to_none=True)
        found = step_gradient(
            detector, criterion, batches, AFTER_WARMUP, group=group, groups=groups, precision=setup.precision
        )
        optimiser.step()
        return found

    return run
