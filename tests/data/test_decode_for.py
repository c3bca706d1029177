"""Photographs far larger than the network's input: JPEGs are decoded at a part of their size, and nothing moves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tood.config.backbone import PixelsConfig
from tood.config.images import CropConfig, ImagesConfig
from tood.data.augmentation import Augmentation, Visit
from tood.data.dataset import DetectionDataset
from tood.data.decode import decode_for, decode_image, examine_image
from tood.data.input_sizes import Bounds
from tood.data.network_input import NetworkInput
from tood.data.split_table import SplitTable
from tood.data.training_targets import TrainingTargets
from tood.data.transforms import transform
from tood.io.errors import UserError

ORIENTATION = 0x0112
SIZE = (640, 480)


def photograph(path: Path, size: tuple[int, int] = SIZE, *, mode: str = "RGB", orientation: int = 1) -> Path:
    """Smooth colours with a dark and a bright rectangle."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    pixels = np.stack([120 + 60 * x, 120 + 60 * y, 150 - 60 * x * y], axis=2)
    pixels[height // 8 : height // 4, width // 8 : width // 2] = (10, 20, 30)
    pixels[height // 2 : height // 2 + 40, width // 2 : width - 30] = (250, 240, 230)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
    picture.save(path, quality=95, subsampling=0, exif=exif) if path.suffix == ".jpg" else picture.save(path)
    return path


@pytest.mark.parametrize(
    ("size", "bounds", "part"),
    [
        ((640, 480), Bounds(30, 40), 8),
        ((640, 480), Bounds(30, 41), 8),
        ((640, 480), Bounds(31, 42), 4),
        ((640, 480), Bounds(60, 80), 4),
        ((640, 480), Bounds(120, 160), 2),
        ((640, 480), Bounds(121, 162), 1),
        ((640, 480), Bounds(900, 900), 1),
        ((644, 484), Bounds(30, 40), 4),
        ((642, 482), Bounds(30, 40), 2),
        ((641, 480), Bounds(30, 40), 1),
        ((640, 481), Bounds(30, 40), 1),
    ],
)
def test_a_part_divides_both_sides_and_leaves_twice_what_is_needed(
    tmp_path: Path, size: tuple[int, int], bounds: Bounds, part: int
) -> None:
    pixels, whole = decode_for(photograph(tmp_path / "a.jpg", size), bounds)
    assert whole == size
    assert tuple(pixels.shape) == (3, size[1] // part, size[0] // part)
    assert pixels.dtype == torch.uint8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bounds", [Bounds(30, 40), Bounds(60, 80), Bounds(100, 100)])
def test_the_resized_picture_is_that_of_the_whole(tmp_path: Path, orientation: int, bounds: Bounds) -> None:
    path = photograph(tmp_path / "a.jpg", orientation=orientation)
    whole, (pixels, size) = decode_image(path), decode_for(path, bounds)
    assert size == (whole.shape[2], whole.shape[1]) == (SIZE if orientation < 5 else SIZE[::-1])
    assert pixels.numel() < whole.numel()
    box, label = torch.tensor([[100.0, 40, 300, 200]]), torch.tensor([0])
    augmentation = Augmentation(bounds)
    expected, boxes, _ = transform(whole, box, label, augmentation, antialias=True)
    found, moved, _ = transform(pixels, box, label, augmentation, antialias=True, whole=size)
    assert torch.equal(boxes, moved)
    difference = (found.float() - expected.float()).abs()
    assert difference.mean() < 1
    assert difference.max() < 40, "an edge that moved by a pixel would differ by 100 or more"


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_modes_of_jpegs(tmp_path: Path, mode: str) -> None:
    path = photograph(tmp_path / "a.jpg", mode=mode)
    pixels, size = decode_for(path, Bounds(60, 80))
    assert (tuple(pixels.shape), size) == ((3, 120, 160), SIZE)
    means = decode_image(path).float().reshape(3, 120, 4, 160, 4).mean((2, 4))
    assert (pixels - means).abs().mean() < 1.5


def test_other_files_and_no_bounds_are_decoded_whole(tmp_path: Path) -> None:
    for path, bounds in ((tmp_path / "a.png", Bounds(30, 40)), (tmp_path / "a.jpg", None)):
        photograph(path)
        pixels, size = decode_for(path, bounds)
        assert torch.equal(pixels, decode_image(path))
        assert size == SIZE


def test_a_file_that_ends_early_is_used_or_refused_alike(tmp_path: Path) -> None:
    content = photograph(tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[:-20])
    assert "ended_early" in examine_image(tmp_path / "a.jpg")[1]
    assert tuple(decode_for(tmp_path / "a.jpg", Bounds(30, 40)).pixels.shape) == (3, 60, 80)
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 4])
    with pytest.raises(UserError, match=r"a\.jpg: "):
        decode_for(tmp_path / "a.jpg", Bounds(30, 40))


# The dataset


def dataset(folder: Path, images: ImagesConfig, *, train: bool) -> DetectionDataset:
    photograph(folder / "a.jpg")
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": SIZE[0], "height": SIZE[1]}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [80, 60, 240, 60], "area": 14400}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (folder / "train.json").write_text(json.dumps(content))
    targets = TrainingTargets.of(SplitTable.of_json(folder / "train.json"))
    return DetectionDataset(targets, folder, NetworkInput(images, PixelsConfig()), train=train, seed=0)


@pytest.mark.parametrize(
    ("setting", "reduced"),
    [
        ({"antialias": True}, True),
        ({"antialias": True, "scale_jitter": (0.5, 1.0)}, True),
        ({"antialias": True, "crop": CropConfig(probability=1.0, smallest=0.3)}, False),
        ({}, False),
    ],
)
def test_training_reads_a_part_where_the_whole_is_shrunk_with_antialiasing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: dict[str, object], reduced: bool
) -> None:
    data = dataset(tmp_path, ImagesConfig.model_validate({"short": 60, "long": 80, **setting}), train=True)
    read: list[tuple[int, int]] = []

    def decoding(path: Path, bounds: Bounds | None) -> object:
        decoded = decode_for(path, bounds)
        read.append((decoded.pixels.shape[2], decoded.pixels.shape[1]))
        return decoded

    monkeypatch.setattr("tood.data.dataset.decode_for", decoding)
    for epoch in range(5):
        visit = Visit(epoch=epoch, scale=0.75)
        sample = data.sample(0, visit)
        assert sample.original_size == SIZE[::-1]
        assert data.input_size(0, visit) == (sample.image.shape[2], sample.image.shape[1])
    assert {size != SIZE for size in read} == {reduced}
