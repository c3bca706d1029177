"""Samples: right pixels with right boxes, the same whatever was read before."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from tood.config.backbone import PixelsConfig
from tood.config.datasets import ShapesDataset
from tood.config.images import ImagesConfig
from tood.data.augmentation import Visit
from tood.data.dataset import DetectionDataset, Sample
from tood.data.input_sizes import Bounds, resized_size
from tood.data.network_input import NetworkInput
from tood.data.prepared import PreparedSplit
from tood.data.split_table import SplitTable
from tood.data.synthetic.shapes import CLASSES
from tood.data.synthetic.shapes_files import generate_shapes
from tood.data.training_targets import TrainingTargets
from tood.io.errors import UserError

JITTERED = NetworkInput(ImagesConfig(short=64, long=96, jitter=(48, 80)), PixelsConfig())


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    folder = tmp_path_factory.mktemp("shapes")
    splits = {"train": {"images": 16, "seed": 3}}
    config = ShapesDataset.model_validate({"format": "shapes", "name": "s", "size": 64, "splits": splits})
    generate_shapes(config, folder)
    return PreparedSplit("train", folder / "annotations/train.json", folder / "images", 16, 0, "")


def dataset(split: PreparedSplit, *, train: bool, config: NetworkInput = JITTERED) -> DetectionDataset:
    targets = TrainingTargets.of(SplitTable.of_split(split, CLASSES))
    return DetectionDataset(targets, split.images, config, train=train, seed=4)


def same(a: Sample, b: Sample) -> bool:
    return a.image_id == b.image_id and torch.equal(a.image, b.image) and torch.equal(a.boxes, b.boxes)


def test_a_sample_does_not_depend_on_what_was_read_before(split: PreparedSplit) -> None:
    forward, backward = dataset(split, train=True), dataset(split, train=True)
    torch.manual_seed(1)
    first = [forward[k] for k in range(16)]
    torch.manual_seed(2)
    second = [backward[k] for k in reversed(range(16))][::-1]
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


def test_epochs_differ_and_return(split: PreparedSplit) -> None:
    data = dataset(split, train=True)
    first = [data[k] for k in range(16)]
    assert not all(same(a, data.sample(k, Visit(1))) for k, a in enumerate(first))
    assert all(same(a, data.sample(k, Visit())) for k, a in enumerate(first))


def test_size_is_known_without_reading(split: PreparedSplit) -> None:
    data = dataset(split, train=True)
    for position in range(16):
        for visit in (Visit(), Visit(5)):
            height, width = data.sample(position, visit).image.shape[1:]
            assert data.input_size(position, visit) == (width, height)


def test_test_images_are_not_augmented(split: PreparedSplit) -> None:
    data = dataset(split, train=False)
    for position in range(16):
        sample = data[position]
        assert same(sample, data.sample(position, Visit(9)))
        width, height = int(data.targets.widths[position]), int(data.targets.heights[position])
        assert sample.original_size == (height, width)
        assert sample.image.shape[:0:-1] == resized_size(width, height, Bounds(64, 96))
        boxes, labels = data.targets.of_image(position)
        scale = sample.image.shape[2] / width
        assert torch.equal(sample.labels, torch.from_numpy(labels))
        torch.testing.assert_close(sample.boxes, torch.from_numpy(boxes) * scale, atol=1.5, rtol=0)


def without_objects(folder: Path) -> TrainingTargets:
    """Of one picture ``a.png`` of 64 x 48 pixels."""
    Image.new("RGB", (64, 48)).save(folder / "a.png")
    images = [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    (folder / "a.json").write_text(json.dumps(content))
    return TrainingTargets.of(SplitTable.of_json(folder / "a.json"))


def test_image_without_objects(tmp_path: Path) -> None:
    sample = DetectionDataset(without_objects(tmp_path), tmp_path, JITTERED, train=True, seed=0)[0]
    assert sample.boxes.shape == (0, 4)
    assert sample.labels.shape == (0,)


def test_image_that_is_not_the_annotated_one_is_refused(tmp_path: Path) -> None:
    targets = without_objects(tmp_path)
    Image.new("RGB", (48, 64)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: is 48x64 pixels, but .* says 64x48"):
        DetectionDataset(targets, tmp_path, JITTERED, train=False, seed=0)[0]
