"""What share of the pixels of a training is padding, by how many images belong together.

    tood data prepare coco_tiny
    python benchmarks/padding.py coco_tiny --schedules 1x 2x --groups 1 2 4 16

Planned from the sizes of the pictures as a training plans them, without reading one. A small data set counts as one of
32,000 pictures of its sizes, so that what is left at the end of an epoch does not matter.
"""

import argparse
from pathlib import Path

import numpy as np

from tood.config.backbone import PixelsConfig
from tood.config.blocks import load_block
from tood.config.schedule import ScheduleConfig
from tood.data.augmentation import Visit
from tood.data.dataset import DetectionDataset
from tood.data.epoch_plan import plan_epoch
from tood.data.network_input import NetworkInput
from tood.data.padded_sizes import PaddedSizes, padded_sizes_for
from tood.data.prepared import open_prepared
from tood.data.split_table import SplitTable
from tood.data.training_targets import TrainingTargets

PICTURES = 32_000
BATCH = 16


def padded_share(dataset: DetectionDataset, group: int, most: int | None) -> tuple[float, float, int]:
    """The share of padded pixels, padded sizes a step on average (as many forward passes), and those of all steps.

    With ``most`` the training has no more sizes than that.
    """
    sizes_of = PaddedSizes(np.zeros((0, 2), np.int64))
    if most is not None:
        sizes_of = padded_sizes_for(dataset, batch=BATCH, group=group, most=most)
    wide = dataset.targets.widths >= dataset.targets.heights
    times = -(-PICTURES // len(wide))
    pixels, padded, passes, every = 0, 0, 0, set()
    plan = plan_epoch(np.tile(wide, times), batch=BATCH, seed=0, epoch=0, group=group).positions
    for step in plan.tolist():
        sizes = [dataset.input_size(place % len(wide), Visit(place // len(wide))) for place in step]
        members = np.array(sizes).reshape(-1, group, 2)
        largest = [sizes_of.smallest_for(int(width), int(height)) for width, height in members.max(axis=1)]
        pixels += int(members.prod(axis=2).sum())
        padded += group * sum(width * height for width, height in largest)
        passes += len(set(largest))
        every |= set(largest)
    return 1 - pixels / padded, passes / len(plan), len(every)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a prepared data set")
    parser.add_argument("--schedules", nargs="+", default=["1x", "2x"])
    parser.add_argument("--groups", nargs="+", type=int, default=[1, 2, 4, 8, 16], help="divisors of 16")
    parser.add_argument("--sizes", type=int, help="padded sizes of the whole training; multiples of 32 if not given")
    options = parser.parse_args()
    prepared = open_prepared(Path("data") / options.dataset)
    split = prepared.split("train")
    for name in options.schedules:
        schedule: ScheduleConfig = load_block(Path("params"), "schedules", name, ScheduleConfig, name)
        table = SplitTable.of_split(split, prepared.classes)
        targets = TrainingTargets.of(table, drop_empty=schedule.drop_empty)
        given = NetworkInput(schedule.images, PixelsConfig())
        dataset = DetectionDataset(targets, split.images, given, train=True, seed=0)
        for group in options.groups:
            share, passes, every = padded_share(dataset, group, options.sizes)
            what = f"{100 * share:.1f} % padding, {passes:.1f} forward passes a step, {every} padded sizes in all"
            print(f"{name}, groups of {group}: {what}")


if __name__ == "__main__":
    main()
