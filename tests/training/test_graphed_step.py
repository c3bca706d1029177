"""Steps by graphs have the losses, gradients and divisors of steps without, to the last bit."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import equality
import pytest
import torch
from graph_stand_in import StandIn, tensors_in
from torch import Tensor, nn

from tood.config.backbone import PixelsConfig
from tood.data.batch import Batch
from tood.detection import cuda_graphs
from tood.detection.cuda_graphs import Recording
from tood.detection.detector import build_criterion
from tood.detection.points import SQUARE, STRIDES, make_points
from tood.detection.training_batch import Progress
from tood.io.console import run_log
from tood.training.graphed_step import GraphedSteps
from tood.training.step import HalvedStep, StepLosses, learns_statistics, step_gradient

PIXELS = PixelsConfig()
TOTAL = 20
DIVIDED = ("tood", "noisy_anchor", "paa")
"""Methods that stand for all when a batch is divided."""


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is recorded when it first comes."""
    monkeypatch.setattr(cuda_graphs, "SIGHTS", 1)


@dataclass
class Step:
    batches: Sequence[Batch]
    number: int

    @property
    def progress(self) -> Progress:
        """Two steps an epoch, so that TOOD's phases change with the ninth."""
        return Progress(epoch=self.number // 2, step=self.number, total_steps=TOTAL)


def turned(batch: Batch, by: int) -> Batch:
    """The images the other way round and in another order, but not the groups."""
    moved = Batch(*(value.roll(by, 0) for _, value in batch._tensors()))
    return replace(moved, images=moved.images.flip(by % 2 + 2), group=batch.group)


def low(batch: Batch) -> Batch:
    """Of half the height."""
    sizes = batch.sizes.clamp(max=torch.tensor([32, 64]))
    return replace(batch, images=batch.images[:, :, :32], sizes=sizes)


def steps() -> Iterator[Step]:
    """Of two heights and of both together, with one object and with several, each more than once in a phase of TOOD."""
    first, last = slice(0, 4), slice(4, 8)
    for number, kind in enumerate(("many", "low", "many", "many", "both", "few", "both", "few"), start=5):
        many, few = (turned(equality.make_batch(objects), number) for objects in (5, 1))
        both = [equality.part_of(many, first), equality.part_of(low(many), last)]
        yield Step({"many": [many], "low": [low(many)], "few": [few], "both": both}[kind], number)


class Side:
    """A detector in training, by graphs or without."""

    def __init__(
        self,
        name: str,
        recorder: StandIn | None = None,
        *,
        groups: int = equality.GROUPS,
        parts: int = 1,
        norm: str = "frozen_statistics",
    ) -> None:
        self.detector, self.criterion = equality.make_detector(name, norm), build_criterion(equality.load_method(name))
        self.options: dict[str, Any] = {"group": equality.alone(), "groups": groups}
        self.parts, self.means = parts, dict[str, Tensor]()
        self.graphs = None
        if recorder is not None:
            log = run_log("tood.test", "run")
            self.graphs = GraphedSteps(self.detector, self.criterion, PIXELS, recorder, log, **self.options)

    def compute(self, step: Step) -> StepLosses:
        more: dict[str, Any] = {"micro_batches": self.parts, "means": self.means}
        if self.graphs is not None:
            return self.graphs.gradient(step.batches, step.progress, **more)
        self.detector.zero_grad(set_to_none=True)
        batches = [batch.normalised(PIXELS) for batch in step.batches]
        return step_gradient(self.detector, self.criterion, batches, step.progress, **self.options, **more)

    def gradients(self) -> dict[str, Tensor]:
        return {name: p.grad.clone() for name, p in self.detector.named_parameters() if p.grad is not None}

    def train(self, step: Step) -> StepLosses:
        found = self.compute(step)
        self.means = found.means
        with torch.no_grad():
            for parameter in self.detector.parameters():
                if parameter.grad is not None:
                    parameter.sub_(1e-3 * parameter.grad)
        return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("name", "parts"), [*((name, 1) for name in equality.METHODS), *((name, 2) for name in DIVIDED)]
)
def test_every_method_trains_by_graphs_as_without(name: str, parts: int) -> None:
    recorder = StandIn()
    plain, graphed = Side(name, parts=parts), Side(name, recorder, parts=parts)
    kept: list[tuple[StepLosses, StepLosses]] = []
    for step in steps():
        kept.append((plain.train(step), graphed.train(step)))
        assert same(graphed.gradients(), plain.gradients()), step.number
    for expected, found in kept:  # which no later step may have changed
        assert same(found.losses, expected.losses)
        assert same(found.means, expected.means)
    assert same(dict(graphed.detector.named_parameters()), dict(plain.detector.named_parameters()))
    assert recorder.replayed > recorder.recorded


@pytest.mark.usefixtures("at_once")
def test_steps_of_one_group_and_of_bytes() -> None:
    noise = torch.Generator().manual_seed(3)
    shape = (equality.IMAGES, 3, 64, 64)
    recorder = StandIn()
    plain, graphed = Side("tood", groups=1), Side("tood", recorder, groups=1)
    for side in (plain, graphed):
        side.detector.float()
    for number in range(3):
        batch = turned(equality.make_batch(5), number)
        batch = replace(
            batch,
            images=torch.randint(0, 256, shape, dtype=torch.uint8, generator=noise),
            boxes=batch.boxes.float(),
            group=torch.zeros_like(batch.group),
        )
        assert same(graphed.train(Step([batch], 5)).losses, plain.train(Step([batch], 5)).losses)
        assert same(graphed.gradients(), plain.gradients())
    assert recorder.recorded == 2


def test_what_comes_seldom_is_not_recorded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tood.test")
    recorder, batch = StandIn(), equality.make_batch(5)
    plain, graphed = Side("atss"), Side("atss", recorder)
    for number in range(cuda_graphs.SIGHTS + 1):
        assert recorder.recorded == (2 if number >= cuda_graphs.SIGHTS else 0)
        step = Step([turned(batch, number)], number)
        assert same(graphed.train(step).losses, plain.train(step).losses)
        assert same(graphed.gradients(), plain.gradients())
    assert "the step of 8 images of 64 x 64 px with up to 5 objects" in caplog.text


@pytest.mark.usefixtures("at_once")
def test_a_parameter_that_no_step_reaches_has_no_gradient() -> None:
    """An optimiser would make it smaller."""
    side = Side("atss", StandIn())
    side.detector.extra = nn.Parameter(torch.ones(3))  # type: ignore[assignment]
    side.detector.neck.requires_grad_(False)
    for number in range(2):
        side.train(Step([equality.make_batch(5)], number))
        assert side.detector.extra.grad is None
        assert not any(parameter.grad is not None for parameter in side.detector.neck.parameters())


@pytest.mark.usefixtures("at_once")
def test_live_statistics_see_every_step_once() -> None:
    recorder = StandIn()
    plain, graphed = Side("gfl", parts=2, norm="batch"), Side("gfl", recorder, parts=2, norm="batch")
    assert learns_statistics(graphed.detector)
    for step in steps():
        assert same(graphed.train(step).losses, plain.train(step).losses)
    assert same(dict(graphed.detector.named_buffers()), dict(plain.detector.named_buffers()))
    assert recorder.recorded > 2


@pytest.mark.usefixtures("at_once")
def test_locations_that_a_graph_reads_are_not_forgotten() -> None:
    """The cache that holds them keeps only the sizes of late."""
    make_points.cache_clear()
    side = Side("tood", StandIn())
    side.train(Step([equality.make_batch(5)], 1))
    assert side.graphs is not None
    (kept,) = side.graphs._graphs._kept.values()
    sizes = tuple((-(-64 // stride), -(-64 // stride)) for stride in STRIDES)
    made = make_points(sizes, STRIDES, torch.device("cpu"), torch.float64, SQUARE)
    assert any(points is made for points in kept.graph._points)


@pytest.mark.usefixtures("at_once")
def test_a_step_whose_program_is_unknown_is_computed_without_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tood.test")
    recorder = StandIn()
    plain, graphed = Side("atss"), Side("atss", recorder)
    monkeypatch.setattr(type(graphed.criterion), "program", lambda _, progress, __: progress.step > 6 or None)
    for step in steps():
        assert same(graphed.train(step).losses, plain.train(step).losses)
        assert (recorder.recorded > 0) == (step.number > 6)
    assert [message for message in caplog.messages if "does not say what the progress changes" in message] == [
        "computes steps without CUDA graphs: criterion 'focal' or its assigner does not say what the progress changes "
        "(see 'program' in docs/adding_a_method.md)"
    ]


class Stale(StandIn):
    """Misses what changes: as kernels that are launched on another stream."""

    def record(self, work: Callable[[], Any]) -> Recording[Any]:
        recording = super().record(work)
        values = [torch.zeros_like(tensor) for tensor in tensors_in(recording.outputs)]

        def replay() -> None:
            for own, value in zip(tensors_in(recording.outputs), values, strict=True):
                own.copy_(value)

        return replace(recording, replay=replay)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("fault", ["stale", "failing", "large"])
def test_where_a_graph_cannot_be_had_steps_are_computed_without(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tood.test")
    recorder = Stale() if fault == "stale" else StandIn()
    if fault == "large":
        recorder.needed = 1

    def fail() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    if fault == "failing":
        recorder.fails = fail
    plain, graphed = Side("noisy_anchor"), Side("noisy_anchor", recorder)
    for step in steps():
        expected, found = plain.train(step), graphed.train(step)
        assert same(found.losses, expected.losses)
        assert same(found.means, expected.means)
        assert same(graphed.gradients(), plain.gradients())
    assert same(dict(graphed.detector.state_dict()), dict(plain.detector.state_dict()))
    assert caplog.text.count("goes on without CUDA graphs") == 1
    assert recorder.recorded <= 2


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("half", ["shares", "losses"])
def test_steps_without_graphs_get_their_memory(
    half: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once: where there are no graphs any more, nothing is left to do but to say that memory does not suffice."""
    caplog.set_level(logging.INFO, "tood.test")
    batch, plain, graphed = equality.make_batch(5), Side("tood"), Side("tood", StandIn())
    graphed.train(Step([batch], 5))
    plain.train(Step([batch], 5))
    monkeypatch.setattr(cuda_graphs, "SIGHTS", 3)
    expected = plain.train(Step([low(batch)], 6))
    computed, left = getattr(HalvedStep, half), [0, 1]

    def short_of_memory(step: HalvedStep, *more: Any) -> Any:
        found = computed(step, *more)
        if left.pop():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found

    monkeypatch.setattr(HalvedStep, half, short_of_memory)
    assert same(graphed.train(Step([low(batch)], 6)).losses, expected.losses)
    assert same(graphed.gradients(), plain.gradients())
    assert caplog.messages[-1] == "goes on without CUDA graphs: other steps need their memory"
    left[:] = [1]
    with pytest.raises(torch.OutOfMemoryError):
        graphed.train(Step([low(batch)], 6))
    assert caplog.text.count("goes on without CUDA graphs") == 1
