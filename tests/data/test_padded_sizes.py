"""Few padded sizes for a training: everything fits, and little is padded."""

from pathlib import Path

import numpy as np
import pytest

from tood.config.backbone import PixelsConfig
from tood.config.images import ImagesConfig
from tood.data.augmentation import Visit
from tood.data.columns import Texts
from tood.data.dataset import DetectionDataset
from tood.data.epoch_plan import plan_epoch
from tood.data.network_input import NetworkInput
from tood.data.padded_sizes import PaddedSizes, padded_sizes_for
from tood.data.training_targets import TrainingTargets

COUNT, BATCH, GROUP = 120, 8, 2
IMAGES = ImagesConfig(short=640, long=1066, jitter=(320, 640))


def photographs(seed: int = 0, sides: tuple[int, int] = (300, 700)) -> DetectionDataset:
    """Of many sizes, without objects."""
    draw = np.random.default_rng(seed)
    targets = TrainingTargets(
        source="made up",
        category_ids=(1,),
        image_ids=np.arange(COUNT),
        file_names=Texts.of([f"{number}.jpg" for number in range(COUNT)]),
        widths=draw.integers(*sides, COUNT),
        heights=draw.integers(*sides, COUNT),
        box_offsets=np.zeros(COUNT + 1, np.int64),
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
    )
    return DetectionDataset(targets, Path("images"), NetworkInput(IMAGES, PixelsConfig()), train=True, seed=seed)


def groups(dataset: DetectionDataset, epochs: range) -> np.ndarray:
    """(n,2) what the groups of some epochs need, without the last ones, which may be of both orientations."""
    found = []
    wide = dataset.targets.widths >= dataset.targets.heights
    for epoch in epochs:
        plan = plan_epoch(wide, batch=BATCH, seed=dataset.seed, epoch=epoch, group=GROUP)
        for positions in plan.positions[:-2]:
            inputs = np.array([dataset.input_size(int(one), Visit(epoch)) for one in positions])
            found.append(inputs.reshape(-1, GROUP, 2).max(axis=1))
    return np.concatenate(found)


@pytest.mark.parametrize("most", [2, 5, 12])
def test_all_inputs_fit_into_so_many_sizes_and_larger_numbers_pad_less(most: int) -> None:
    dataset = photographs()
    chosen = padded_sizes_for(dataset, batch=BATCH, group=GROUP, most=most)
    assert len(chosen.sizes) <= most
    assert (chosen.sizes % 32 == 0).all()
    needed = groups(dataset, range(60, 64))  # not those that they were chosen for
    padded = np.array([chosen.smallest_for(*one) for one in needed.tolist()])
    assert (padded >= needed).all()
    assert {tuple(one) for one in padded.tolist()} <= {tuple(one) for one in chosen.sizes.tolist()}
    more = padded_sizes_for(dataset, batch=BATCH, group=GROUP, most=2 * most)
    fuller = np.array([more.smallest_for(*one) for one in needed.tolist()])
    assert fuller.prod(axis=1).sum() < padded.prod(axis=1).sum()


def test_enough_sizes_are_the_multiples_of_32() -> None:
    dataset = photographs(sides=(500, 520))
    chosen = padded_sizes_for(dataset, batch=BATCH, group=GROUP, most=1000)
    needed = groups(dataset, range(2))
    exact = -(-needed // 32) * 32
    assert [list(chosen.smallest_for(*one)) for one in needed.tolist()] == exact.tolist()


def test_they_follow_from_data_and_seed_alone() -> None:
    one, again, other = (
        padded_sizes_for(photographs(seed), batch=BATCH, group=GROUP, most=6).sizes.tolist() for seed in (1, 1, 2)
    )
    assert one == again != other


def test_what_fits_into_none_keeps_its_own_size() -> None:
    sizes = PaddedSizes(np.array([[64, 96], [128, 96]]))
    assert sizes.smallest_for(33, 90) == (64, 96)
    assert sizes.smallest_for(65, 90) == (128, 96)
    assert sizes.smallest_for(65, 97) == (96, 128)


def test_each_orientation_needs_one() -> None:
    with pytest.raises(ValueError, match="less than one for each orientation"):
        padded_sizes_for(photographs(), batch=BATCH, group=GROUP, most=1)
