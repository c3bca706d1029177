"""Locations, their validity, and the cache behind them."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tood.detection.points import STRIDES, make_points, points_of, valid_points

CPU = torch.device("cpu")


def test_centres_are_multiples_of_the_stride_row_by_row() -> None:
    points = make_points(((2, 3), (1, 2)), (8, 16), CPU, torch.float32)
    expected = [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8], [0, 0], [16, 0]]
    torch.testing.assert_close(points.centres, torch.tensor(expected, dtype=torch.float32))
    assert points.strides.tolist() == [8] * 6 + [16] * 2
    assert [len(level) for level in points.split(points.centres, dim=0)] == [6, 2]
    torch.testing.assert_close(points.anchors[1], torch.tensor([8.0 - 32, -32, 8 + 32, 32]))


def test_a_full_size_image_has_22400_locations() -> None:
    sizes = tuple((-(-800 // s), -(-1344 // s)) for s in STRIDES)
    assert len(make_points(sizes, STRIDES, CPU, torch.float32).centres) == 22_400


def test_validity_follows_each_images_own_padding() -> None:
    points = make_points(((16, 24), (8, 12), (4, 6), (2, 3), (1, 2)), STRIDES, CPU, torch.float32)
    valid = valid_points(points, torch.tensor([[128, 185], [101, 130], [33, 60]]))
    assert valid[0].all()
    for image, (pad_h, pad_w) in enumerate([(128, 192), (128, 160), (64, 64)]):
        for level, stride in zip(points.split(valid[image], dim=0), STRIDES, strict=True):
            rows, columns = -(-pad_h // stride), -(-pad_w // stride)
            assert level.sum() == rows * columns


def test_points_made_in_inference_mode_serve_training_later() -> None:
    with torch.inference_mode():
        maps = [torch.zeros(1, 1, 5, 7)]
        points = points_of(maps, (8,), torch.float32)
        assert points.anchors.shape == (35, 4)
    again = points_of([torch.zeros(1, 1, 5, 7)], (8,), torch.float32)
    assert again is points
    weight = torch.ones(1, requires_grad=True)
    ((again.centres * weight).square().sum() + (again.anchors * weight).square().sum()).backward()


def test_grids_are_made_on_their_device_without_copies() -> None:
    """Any other device's tensor among the inputs of an operation would be a copy from the host."""
    points = make_points(((2, 3), (1, 2)), (8, 16), torch.device("meta"), torch.float32)
    assert points.centres.device.type == points.strides.device.type == points.anchors.device.type == "meta"
    devices: set[str] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            devices.update(leaf.device.type for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
            return result

    with Watch():
        make_points(((3, 5), (2, 3)), (8, 16), torch.device("meta"), torch.float64)
    assert devices == {"meta"}


def test_the_sizes_of_late_stay_in_the_cache_and_no_more() -> None:
    """With nine anchors at a location those of a jittered training would take gigabytes of a GPU's memory."""
    make_points.cache_clear()
    sizes = [(480 + 32 * a, 480 + 32 * b) for a in range(11) for b in range(28)]
    kept = [make_points(((height // 32, width // 32),), (32,), CPU, torch.float32) for height, width in sizes]
    of_late = sizes[-64:]
    again = [make_points(((height // 32, width // 32),), (32,), CPU, torch.float32) for height, width in of_late]
    assert all(one is other for one, other in zip(kept[-64:], again, strict=True))
    assert make_points.cache_info().currsize == 64


def test_cells_tell_where_locations_lie_in_their_levels() -> None:
    points = make_points(((2, 3), (1, 2)), (8, 16), CPU, torch.float32)
    cells = points.cells
    assert cells.positions.tolist() == [[0, 0, 0, 1, 1, 1, 0, 0], [0, 1, 2, 0, 1, 2, 0, 1]]
    assert cells.sizes.tolist() == [[2] * 6 + [1] * 2, [3] * 6 + [2] * 2]
    assert cells.starts.tolist() == [0] * 6 + [6] * 2
    torch.testing.assert_close(cells.positions.flip(0).T * points.strides[:, None], points.centres)
    assert points.cells is cells


def test_cells_made_in_inference_mode_serve_training() -> None:
    make_points.cache_clear()
    with torch.inference_mode():
        cells = make_points(((2, 3),), (8,), CPU, torch.float32).cells
    assert not any(one.is_inference() for one in (cells.positions, cells.sizes, cells.starts))
