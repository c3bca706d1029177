"""The gradient of a step by CUDA graphs: forward, criterion and backward in two launches instead of thousands.

A step has two graphs, one for each half (``HalvedStep``). What processes exchange is exchanged between the two and
after them, outside, so that each process records when it likes. A graph is for steps whose batches have the same shapes
and whose criterion runs the same program; where there is none, a step is computed as without.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tood.config.backbone import PixelsConfig
from tood.data.batch import Batch
from tood.detection.criteria.base import Criterion, Means, program_of
from tood.detection.cuda_graphs import Graphs, NotRepeatableError, Recorder, recorder_on
from tood.detection.deformable import captures_in_graph
from tood.detection.points import Points, fewest_locations
from tood.detection.training_batch import Progress
from tood.io.console import RunLog, run_log
from tood.training.job import Job
from tood.training.processes.distributed import Group
from tood.training.step import HalvedStep, StepLosses, learns_statistics

TOLERANCE = 1e-2
"""By which share the losses of a graph, and the norms of its gradients, may differ from what it was recorded from."""


def graphed_steps(job: Job) -> "GraphedSteps | None":
    """The steps of a job by graphs; None on a CPU, where they are switched off, and where no graph can hold them.

    The log says what of the job no graph can hold. The detector must be in training mode.
    """
    recorder = recorder_on(job.group.device)
    if recorder is None:
        return None
    log, schedule = run_log(__name__, job.config.run), job.config.schedule
    why = why_not(job.detector, job.criterion, world=job.group.world, steps=job.fit.fitted.steps)
    if why:
        log.info("trains without CUDA graphs: %s", why)
        return None
    return GraphedSteps(
        job.detector,
        job.criterion,
        job.config.backbone.pixels,
        recorder,
        log,
        group=job.group,
        groups=schedule.groups,
        precision=job.precision,
    )


def why_not(detector: nn.Module, criterion: Criterion, *, world: int, steps: int) -> str:
    """Why no graph can hold the steps of a training, of so many in all; empty if graphs can."""
    if not captures_in_graph(detector):
        return "they cannot hold deformable convolutions"
    if world > 1 and learns_statistics(detector):
        return "batch normalisation is synchronised in the middle of a step"
    if program_of(criterion, Progress(0, 0, steps), 0) is None:
        return _unknown(criterion)
    return ""


def _unknown(criterion: Criterion) -> str:
    return (
        f"criterion '{criterion.kind}' or its assigner does not say what the progress changes (see 'program' in "
        "docs/adding_a_method.md)"
    )


class GraphedSteps:
    """Gradients of a detector's steps as ``step_gradient`` computes them, by graphs where there are some."""

    def __init__(
        self,
        detector: nn.Module,
        criterion: Criterion,
        pixels: PixelsConfig,
        recorder: Recorder,
        log: RunLog,
        *,
        group: Group,
        groups: int = 1,
        precision: str = "float32",
    ) -> None:
        self._detector, self._criterion, self._pixels = detector, criterion, pixels
        self._recorder, self._log, self._group = recorder, log, group
        self._half = partial(HalvedStep, detector, criterion, world=group.world, groups=groups, precision=precision)
        self._graphs: Graphs[_GraphedStep] = Graphs(recorder, log)
        self._gradients: dict[nn.Parameter, Tensor] = {}
        self._said = False

    def gradient(
        self, batches: Sequence[Batch], progress: Progress, *, micro_batches: int = 1, means: Means | None = None
    ) -> StepLosses:
        """As ``step_gradient``, but of batches that are not normalised yet; the gradient replaces the one before."""
        means = means or {}
        half = partial(self._half, progress=progress, micro_batches=micro_batches)
        inputs = _Inputs(tuple(batches), means, self._pixels)
        key, graph = self._key(batches, progress, micro_batches, means), None
        if key is not None:
            record = partial(_GraphedStep, half, inputs, self._detector, self._gradients, self._recorder)
            graph = self._graphs.find(key, record, f"the step of {_described(batches)}")
        found = self._without_graph(half, inputs) if graph is None else graph.gradient(batches, means, self._group)
        self._group.average_gradients(self._detector)
        return found

    def _without_graph(self, half: Callable[..., HalvedStep], inputs: "_Inputs") -> StepLosses:
        """As ``step_gradient``; where memory does not suffice beside the graphs, once more without them."""
        total = None
        while True:
            self._detector.zero_grad(set_to_none=True)
            try:
                step = half(batches=inputs.normalised(), means=inputs.means)
                shares = step.shares()
                # Processes exchange them once, whatever one of them has to repeat.
                total = self._group.sum(shares) if total is None else total
                return step.losses(total)
            except torch.OutOfMemoryError:
                if not self._graphs:
                    raise
                self._graphs.give_up("other steps need their memory")

    def _key(self, batches: Sequence[Batch], progress: Progress, micro_batches: int, means: Means) -> Hashable | None:
        """All that a step's kernels depend on besides the values of tensors; None if that is not known."""
        locations = min(fewest_locations(*batch.images.shape[-2:]) for batch in batches)
        program = program_of(self._criterion, progress, locations)
        if program is None:
            if not self._said:
                self._log.info("computes steps without CUDA graphs: %s", _unknown(self._criterion))
            self._said = True
            return None
        shapes = tuple((batch.images.shape, batch.images.dtype, batch.labels.shape) for batch in batches)
        return program, shapes, micro_batches, tuple(sorted((name, mean.shape) for name, mean in means.items()))


def _described(batches: Sequence[Batch]) -> str:
    """For example "12 + 4 images of 800 x 1344, 1344 x 800 px with up to 32 objects"."""
    counts = " + ".join(str(len(batch.images)) for batch in batches)
    sizes = ", ".join(f"{batch.images.shape[2]} x {batch.images.shape[3]}" for batch in batches)
    return f"{counts} images of {sizes} px with up to {max(batch.labels.shape[1] for batch in batches)} objects"


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What steps read besides the detector."""

    batches: tuple[Batch, ...]
    means: Means
    pixels: PixelsConfig

    def clone(self) -> "_Inputs":
        means = {name: mean.clone() for name, mean in self.means.items()}
        return _Inputs(tuple(batch.clone() for batch in self.batches), means, self.pixels)

    def fill(self, batches: Sequence[Batch], means: Means) -> None:
        for own, given in zip(self.batches, batches, strict=True):
            own.copy_(given)
        for name, mean in self.means.items():
            mean.copy_(means[name])

    def normalised(self) -> list[Batch]:
        return [batch.normalised(self.pixels) for batch in self.batches]


@dataclass(frozen=True, eq=False)
class _Summary:
    """By which two computations of a step are compared."""

    losses: Tensor
    norms: Tensor
    """Of the gradients, one for each parameter."""

    def is_like(self, other: "_Summary") -> bool:
        """Whether rounding explains the difference; waits for the device."""
        largest = float(other.norms.nan_to_num(0, 0, 0).max())
        return torch.allclose(self.losses, other.losses, rtol=TOLERANCE, atol=1e-4, equal_nan=True) and torch.allclose(
            self.norms, other.norms, rtol=TOLERANCE, atol=TOLERANCE * largest, equal_nan=True
        )


class _GraphedStep:
    """The two graphs of steps of some shapes. Recording them leaves the detector's buffers as they were.

    Gradients lie in memory that all graphs of a detector share (``gradients``): a step sets it to zero and adds to it.
    A parameter that the step does not reach has no gradient, as without graphs. NotRepeatableError if the graphs do not
    compute what they were recorded from, as where a kernel is launched on another stream.
    """

    def __init__(
        self,
        half: Callable[..., HalvedStep],
        inputs: _Inputs,
        detector: nn.Module,
        gradients: dict[nn.Parameter, Tensor],
        recorder: Recorder,
    ) -> None:
        self._half, self._inputs = half, inputs.clone()
        self._parameters = list(detector.parameters())
        self._reached: dict[nn.Parameter, Tensor] = {}
        self._step: HalvedStep | None = None
        self._points: list[Points] = []
        """Read by the kernels too, so it must live as long as the graphs; a cache may forget it."""
        before = [(buffer, buffer.clone()) for buffer in detector.buffers()]
        try:
            self._attach()
            self._total = recorder.beside(self._go_forward)
            recorder.beside(self._go_back)
            for parameter in self._parameters:
                if parameter.grad is not None:
                    self._reached[parameter] = gradients.setdefault(parameter, torch.zeros_like(parameter))
            self._attach()
            expected = recorder.beside(self._once)
            self._forward = recorder.record(self._go_forward)
            self._backward = recorder.record(self._go_back)
            self._forward.replay()
            self._total.copy_(self._forward.outputs)
            self._backward.replay()
            if not self._summary(self._backward.outputs).is_like(expected):
                raise NotRepeatableError("the graph computes other losses or gradients")
        finally:
            for buffer, value in before:
                buffer.copy_(value)

    def gradient(self, batches: Sequence[Batch], means: Means, group: Group) -> StepLosses:
        """Of this process's share: the gradients are still to be averaged over processes."""
        self._inputs.fill(batches, means)
        self._attach()
        self._forward.replay()
        self._total.copy_(self._forward.outputs)
        group.sum(self._total)
        self._backward.replay()
        # The next replay overwrites them.
        losses, running = (
            {name: value.clone() for name, value in found.items()}
            for found in (self._backward.outputs.losses, self._backward.outputs.means)
        )
        return StepLosses(losses, running)

    def _attach(self) -> None:
        for parameter in self._parameters:
            parameter.grad = self._reached.get(parameter)

    def _once(self) -> _Summary:
        self._total.copy_(self._go_forward())
        return self._summary(self._go_back())

    def _go_forward(self) -> Tensor:
        if self._reached:
            torch._foreach_zero_(list(self._reached.values()))
        self._step = self._half(batches=self._inputs.normalised(), means=self._inputs.means)
        self._points = self._step.points
        return self._step.shares()

    def _go_back(self) -> StepLosses:
        step, self._step = self._step, None
        assert step is not None
        return step.losses(self._total)

    def _summary(self, found: StepLosses) -> _Summary:
        norms = torch._foreach_norm(list(self._reached.values()))
        return _Summary(torch.stack(list(found.losses.values())), torch.stack(norms))
