"""Augmentation: drawn by seed, visit and image alone, crops and colours included, with boxes on their pixels."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tood.config.backbone import PixelsConfig
from tood.config.datasets import ShapesDataset
from tood.config.images import CropConfig, ImagesConfig
from tood.config.schedule import RepeatConfig
from tood.data import loader
from tood.data.augmentation import Augmentation, Visit, draw_augmentation, no_augmentation
from tood.data.batch import Batch
from tood.data.dataset import DetectionDataset
from tood.data.input_sizes import Bounds
from tood.data.loader import Reading, train_batches
from tood.data.network_input import NetworkInput
from tood.data.normalisation import normalise
from tood.data.prepared import PreparedSplit
from tood.data.split_table import SplitTable
from tood.data.synthetic.shapes import CLASSES
from tood.data.synthetic.shapes_files import generate_shapes
from tood.data.training_targets import TrainingTargets
from tood.data.transforms import transform

EVERYTHING = ImagesConfig(
    short=64, long=96, scale_jitter=(0.6, 1.5), crop=CropConfig(probability=0.7), photometric=0.5, flip=0.5
)
LITE = PixelsConfig(mean=(127, 127, 127), std=(128, 128, 128))
Boxes = NDArray[np.float32]
SEEDS = ((0, 0, 1), (0, 0, 2), (0, 3, 1), (7, 3, 139), (1000, 11, 2**40), (0, 1, -5))
"""Of training, epoch and image."""
NOTHING = np.zeros((0, 4), np.float32)


@pytest.mark.parametrize(
    ("jitter", "expected"),
    [
        ((480, 800), [(799, False), (749, True), (794, True), (487, True), (555, True), (689, True)]),
        (None, [(600, False), (600, True), (600, True), (600, True), (600, True), (600, True)]),
    ],
)
def test_jitter_and_flip_are_those_of_the_versions_before(
    jitter: tuple[int, int] | None, expected: list[tuple[int, bool]]
) -> None:
    images = ImagesConfig(short=600, long=1000, jitter=jitter)
    found = [draw_augmentation(images, s, Visit(e), k, (64, 48), NOTHING) for s, e, k in SEEDS]
    assert found == [Augmentation(Bounds(short, 1000), flip=flip) for short, flip in expected]


def boxes(*rows: tuple[float, float, float, float]) -> Boxes:
    return np.array(rows, np.float32).reshape(-1, 4)


OBJECTS = boxes((4, 5, 30, 25), (50, 20, 90, 70), (10, 40, 20, 48))


def drawn(seed: int, visit: Visit, image: int, images: ImagesConfig = EVERYTHING) -> Augmentation:
    return draw_augmentation(images, seed, visit, image, (100, 80), OBJECTS)


def test_every_draw_is_a_function_of_seed_visit_and_image_and_moves_no_generator() -> None:
    keys = [(s, Visit(e, o, 1.2), k) for s in range(2) for e in range(3) for o in range(3) for k in range(8)]
    torch.manual_seed(1)
    first = [drawn(*key) for key in keys]
    torch.manual_seed(2)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()
    second = [drawn(*key) for key in reversed(keys)][::-1]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == before[1:]
    assert second == first
    assert len(set(first)) > 0.7 * len(keys), "a quarter of them change neither frame nor colours"
    assert {one.crop is None for one in first} == {one.colours is None for one in first} == {True, False}


def test_colours_and_crops_are_drawn_as_often_as_configured() -> None:
    every = [drawn(0, Visit(), k) for k in range(300)]
    assert 0.43 < np.mean([one.colours is not None for one in every]) < 0.57
    assert 0.45 < np.mean([one.crop is not None for one in every]) <= 0.76, "a draw may also keep the whole image"
    plain = ImagesConfig(short=64, long=96)
    assert all(drawn(0, Visit(), k, plain).crop is drawn(0, Visit(), k, plain).colours is None for k in range(50))
    assert drawn(0, Visit(4, 2, 0.5), 1, no_flip(plain)) == Augmentation(Bounds(32, 48))
    assert no_augmentation(EVERYTHING) == Augmentation(Bounds(64, 96))
    assert draw_augmentation(EVERYTHING, 0, Visit(), 1, (100, 80), NOTHING).crop is None


def no_flip(images: ImagesConfig) -> ImagesConfig:
    return images.model_copy(update={"flip": 0.0})


@st.composite
def annotated(draw: st.DrawFn) -> tuple[tuple[int, int], Boxes]:
    width, height = draw(st.integers(32, 400)), draw(st.integers(32, 400))
    share = st.floats(0.0, 1.0)
    rows = draw(st.lists(st.tuples(share, share, share, share), min_size=1, max_size=6))
    found = []
    for x, y, w, h in rows:
        left, top = x * (width - 2), y * (height - 2)
        found.append((left, top, left + 2 + w * (width - 2 - left), top + 2 + h * (height - 2 - top)))
    return (width, height), boxes(*found)


@settings(max_examples=60, deadline=None)
@given(sample=annotated(), seed=st.integers(0, 999), smallest=st.floats(0.1, 1.0))
def test_a_crop_is_inside_and_keeps_the_centre_of_an_object(
    sample: tuple[tuple[int, int], Boxes], seed: int, smallest: float
) -> None:
    (width, height), objects = sample
    images = ImagesConfig(short=64, long=96, crop=CropConfig(probability=1.0, smallest=smallest))
    found = draw_augmentation(images, seed, Visit(), 1, (width, height), objects).crop
    if found is None:
        return
    left, top, wide, high = found
    assert left >= 0 <= top
    assert left + wide <= width
    assert top + high <= height
    assert wide >= max(1, int(smallest * width)) > 0 < high
    assert high >= int(smallest * height)
    middle = (objects[:, :2] + objects[:, 2:]) / 2
    inside = ((middle > (left, top)) & (middle < (left + wide, top + high))).all(1)
    assert inside.any()
    _, _, labels = transform(
        torch.zeros(3, height, width, dtype=torch.uint8),
        torch.from_numpy(objects),
        torch.arange(len(objects)),
        Augmentation(Bounds(640, 640), crop=found),
        antialias=False,
    )
    assert set(labels.tolist()) <= set(np.flatnonzero(inside).tolist())


@pytest.mark.parametrize("size", [(40, 2), (2, 40), (1, 1), (6, 6), (7, 300)])
def test_images_of_a_few_pixels_are_cropped_or_kept_whole(size: tuple[int, int]) -> None:
    images = ImagesConfig(short=64, long=96, crop=CropConfig(probability=1.0))
    drawn = [draw_augmentation(images, 0, Visit(), number, size, boxes((0, 0, *size))).crop for number in range(60)]
    assert any(drawn) == (min(size) > 6)
    assert all(min(crop[2:]) >= 2 for crop in drawn if crop)


def test_boxes_are_around_their_pixels_after_crop_resize_and_flip() -> None:
    image, frame = torch.zeros(3, 80, 100, dtype=torch.uint8), boxes((22, 30, 58, 61))
    image[:, 30:61, 22:58] = 255
    images = EVERYTHING.model_copy(update={"crop": CropConfig(probability=1.0), "photometric": 0.0})
    seen = set()
    for number in range(80):
        augmentation = draw_augmentation(images, 0, Visit(scale=0.8 + number % 5 / 5), number, (100, 80), frame)
        seen.add((augmentation.crop is None, augmentation.flip))
        picture, moved, labels = transform(
            image, torch.from_numpy(frame), torch.tensor([4]), augmentation, antialias=False
        )
        assert labels.tolist() == [4]
        rows, columns = (torch.nonzero((picture[0] > 127).any(axis)).ravel() for axis in (1, 0))
        bright = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        torch.testing.assert_close(moved[0], torch.tensor(bright).float(), atol=1.0, rtol=0)
    assert len(seen) == 4


def test_colours_change_pixels_alone() -> None:
    image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    same = {"antialias": False}
    arguments = image, torch.from_numpy(OBJECTS), torch.arange(3)
    plain, frames, labels = transform(*arguments, Augmentation(Bounds(48, 64)), **same)
    before = torch.get_rng_state()
    first, moved, kept = transform(*arguments, Augmentation(Bounds(48, 64), colours=5), **same)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == plain.shape
    assert first.dtype == plain.dtype
    assert not torch.equal(first, plain)
    assert torch.equal(moved, frames)
    assert torch.equal(kept, labels)
    torch.manual_seed(8)
    assert torch.equal(first, transform(*arguments, Augmentation(Bounds(48, 64), colours=5), **same)[0])
    assert not torch.equal(first, transform(*arguments, Augmentation(Bounds(48, 64), colours=6), **same)[0])


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    folder = tmp_path_factory.mktemp("shapes")
    splits = {"train": {"images": 14, "seed": 3}}
    config = ShapesDataset.model_validate({"format": "shapes", "name": "s", "size": 64, "splits": splits})
    generate_shapes(config, folder)
    return PreparedSplit("train", folder / "annotations/train.json", folder / "images", 14, 0, "")


@pytest.fixture(scope="module")
def dataset(split: PreparedSplit) -> DetectionDataset:
    return opened(split)


def opened(split: PreparedSplit, *, train: bool = True) -> DetectionDataset:
    targets = TrainingTargets.of(SplitTable.of_split(split, CLASSES))
    repeat = RepeatConfig(threshold=0.9)
    return DetectionDataset(
        targets, split.images, NetworkInput(EVERYTHING, LITE), train=train, seed=4, repeat=repeat if train else None
    )


@settings(max_examples=60, deadline=None)
@given(
    position=st.integers(0, 13),
    visit=st.builds(Visit, st.integers(0, 9), st.integers(0, 3), st.floats(0.6, 1.5)),
)
def test_sizes_are_known_without_reading(dataset: DetectionDataset, position: int, visit: Visit) -> None:
    sample = dataset.sample(position, visit)
    height, width = sample.image.shape[1:]
    assert dataset.input_size(position, visit) == (width, height)
    assert (dataset.largest_input_sizes()[position] >= (width, height)).all()
    if len(dataset.targets.of_image(position)[1]):
        assert len(sample.labels), "a crop keeps an object"


def test_occurrences_of_an_image_differ(dataset: DetectionDataset) -> None:
    samples = [dataset.sample(0, Visit(0, occurrence)).image for occurrence in range(4)]
    assert not all(torch.equal(samples[0], other) for other in samples[1:])


def read(dataset: DetectionDataset, *, rank: int = 0, world: int = 1, workers: int = 0, **options: int) -> list[Batch]:
    reading = Reading(workers=workers)
    steps = train_batches(dataset, batch=4, seed=9, epoch=1, rank=rank, world=world, reading=reading, **options)
    return [batch for (batch,) in steps]


def all_same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) > 0 and all(
        torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(tensors(x), tensors(y), strict=True)
    )


def tensors(batch: Batch) -> list[torch.Tensor]:
    return [value for _, value in batch._tensors()]


def test_processes_workers_and_new_starts_see_the_same_augmented_images(dataset: DetectionDataset) -> None:
    whole = read(dataset)
    assert len(whole) == -(-dataset.visits // 4) > -(-len(dataset) // 4)
    shares = [read(dataset, rank=rank, world=2) for rank in range(2)]
    for step, together in enumerate(whole):
        parts = [share[step] for share in shares]
        assert torch.equal(torch.cat([part.images for part in parts]), together.images)
        assert torch.equal(torch.cat([part.sizes for part in parts]), together.sizes)
    assert all_same(read(dataset, workers=2), whole)
    assert all_same(read(dataset, start_step=2), whole[2:])
    assert all_same(read(dataset, start_step=1, end_step=3), whole[1:3])
    assert len({tuple(batch.images.shape[2:]) for batch in whole}) > 1, "every step has a scale of its own"


def test_batches_are_normalised_as_the_backbone_takes_them(split: PreparedSplit, dataset: DetectionDataset) -> None:
    trained = read(dataset)[0]
    plain = opened(split, train=False)
    tested = next(loader.test_batches(plain, batch=2, rank=0, world=1))
    for batch in (trained, tested):
        height, width = batch.sizes[0].tolist()
        pixels = batch.images[0, :, :height, :width] * 128 + 127
        torch.testing.assert_close(pixels, pixels.round(), atol=1e-3, rtol=0)
        assert 0 <= pixels.min() < 255 >= pixels.max() > 127
        assert not batch.images[0, :, height:].any()
    image = plain[plain.targets.image_ids.tolist().index(int(tested.image_ids[0]))].image
    assert torch.equal(tested.images[0, :, : image.shape[1], : image.shape[2]], normalise(image, LITE))
