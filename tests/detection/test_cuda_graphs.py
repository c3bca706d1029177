"""On a GPU: what a CUDA graph replays is what it would compute, and nothing waits for the host."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tood.benchmarks.random_scenes import SceneSize, sparse_predictions
from tood.config.method import InferenceConfig
from tood.detection.heads.alignment import sample_boxes
from tood.detection.points import make_points
from tood.detection.postprocess import detect_one_by_one, read_slots
from tood.detection.predictions import Predictions
from tood.detection.slots import detection_slots

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def replayed(function: Callable[..., tuple[Tensor, ...]], first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
    """The function of the second inputs, by a graph that was captured with the first."""
    inputs = [one.detach().clone().requires_grad_(one.requires_grad) for one in first]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = function(*inputs)
    with torch.no_grad():
        for own, other in zip(inputs, second, strict=True):
            own.copy_(other)
    graph.replay()
    return [one.clone() for one in outputs]


def test_a_graph_samples_boxes_and_their_gradients() -> None:
    device, sizes = torch.device("cuda"), ((6, 9), (3, 5))
    points = make_points(sizes, (8, 16), device, torch.float32)

    def sample(boxes: Tensor, *offsets: Tensor) -> tuple[Tensor, ...]:
        sampled = sample_boxes(boxes, offsets, points)
        return (sampled, *torch.autograd.grad(sampled.square().sum(), (boxes, *offsets)))

    def draw() -> list[Tensor]:
        shapes = [(2, 69, 4), *((2, 8, h, w) for h, w in sizes)]
        return [torch.randn(shape, device=device, requires_grad=True) for shape in shapes]

    second = draw()
    for ours, expected in zip(replayed(sample, draw(), second), sample(*second), strict=True):
        torch.testing.assert_close(ours, expected)


def scene(seed: int) -> Predictions:
    size = SceneSize(256, 320, images=3, objects=0)
    return sparse_predictions(size, torch.device("cuda"), share=0.01, threshold=0.05, seed=seed)


def test_a_graph_finds_what_is_found_one_by_one() -> None:
    config, second = InferenceConfig(), scene(2)

    def slots(logits: Tensor, boxes: Tensor, alignment: Tensor) -> tuple[Tensor, ...]:
        dense = replace(second, class_logits=logits, boxes=boxes, alignment_logits=alignment)
        return (detection_slots(dense, config),)

    def inputs(dense: Predictions) -> list[Tensor]:
        assert dense.alignment_logits is not None
        return [dense.class_logits, dense.boxes, dense.alignment_logits]

    (found,) = replayed(slots, inputs(scene(1)), inputs(second))
    assert torch.equal(found, detection_slots(second, config))
    assert found[:, -1, 1].tolist() == [1] * 3
    expected = detect_one_by_one(second, range(3), config)
    for ours, theirs in zip(read_slots(second, found, config), expected, strict=True):
        assert torch.equal(ours.labels, theirs.labels.cpu())
        torch.testing.assert_close(ours.scores, theirs.scores.cpu(), rtol=1e-6, atol=0)
        torch.testing.assert_close(ours.boxes, theirs.boxes.cpu(), rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("waiting_is_an_error")
@pytest.mark.parametrize("voting", [None, 0.025])
def test_slots_do_not_wait(voting: float | None) -> None:
    dense = scene(3)
    dense = replace(dense, quality=dense.alignment_logits)
    config = InferenceConfig(rank_by="class" if voting is None else "geometric_mean", score_voting=voting)
    assert detection_slots(dense, config).shape == (3, 101, 6)
