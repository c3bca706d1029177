"""What a training makes of a split's images and objects, held against what it is really given."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tood.config.images import ImagesConfig
from tood.data.augmentation import Augmentation
from tood.data.input_sizes import Bounds, resized_size, resized_sizes
from tood.data.split_table import SplitTable
from tood.data.target_counts import count_targets, input_boxes
from tood.data.training_targets import Fate, TrainingTargets, fates, without_empty
from tood.data.transforms import transform


def table_of(folder: Path, images: list[tuple[int, int]], boxes: list[dict[str, Any]]) -> SplitTable:
    """Images 1, 2, … of a size (w, h) with annotations of one class."""
    entries = [
        {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
        for number, (width, height) in enumerate(images, start=1)
    ]
    annotations = [{"category_id": 1, "iscrowd": 0, **box} for box in boxes]
    content = {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (folder / "train.json").write_text(json.dumps(content))
    return SplitTable.of_json(folder / "train.json")


def box(image: int, *bbox: float, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "bbox": list(bbox), **more}


def random_table(folder: Path, seed: int = 0) -> SplitTable:
    """Images of odd sizes with objects of every fate."""
    rng = np.random.default_rng(seed)
    sizes = [(int(w), int(h)) for w, h in rng.integers(20, 900, (12, 2))]
    boxes = []
    for _ in range(400):
        image = int(rng.integers(1, 15))  # some of no image
        width, height = np.exp(rng.uniform(-0.5, 5, 2))
        flags = {"iscrowd": int(rng.random() < 0.1), "ignore": int(rng.random() < 0.1)}
        area = width * height * int(rng.random() < 0.9)
        boxes.append(box(image, *rng.uniform(-60, 700, 2), width, height, area=area, **flags))
    return table_of(folder, sizes, boxes)


@pytest.mark.parametrize("drop_empty", [False, True])
def test_targets_are_those_of_training(tmp_path: Path, drop_empty: bool) -> None:
    table = random_table(tmp_path)
    used, targets = without_empty(table) if drop_empty else table, TrainingTargets.of(table, drop_empty=drop_empty)
    assert used.image_ids.tolist() == targets.image_ids.tolist()
    assert used.file_names.tolist() == targets.file_names.tolist()
    chosen = fates(used) == Fate.TARGET
    assert 0 < chosen.sum() < len(chosen)
    per_image = np.bincount(used.locate_annotations()[0][chosen], minlength=len(used.image_ids))
    assert per_image.tolist() == np.diff(targets.box_offsets).tolist()
    assert set(fates(used)) == set(Fate)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("short", "long"), [(64, 96), (333, 1000), (17, 4000)])
def test_sizes_and_boxes_are_those_of_the_transform(tmp_path: Path, short: int, long: int, mirrored: bool) -> None:
    table = random_table(tmp_path, seed=short)
    targets, bounds = TrainingTargets.of(table), Bounds(short, long)
    found, chosen = input_boxes(table, bounds, mirrored=mirrored), fates(table) == Fate.TARGET
    of_image, sides = table.locate_annotations()[0], found.shorter_sides
    for position, (width, height) in enumerate(zip(table.widths.tolist(), table.heights.tolist(), strict=True)):
        boxes, labels = (torch.from_numpy(part.copy()) for part in targets.of_image(position))
        picture = torch.zeros(3, height, width, dtype=torch.uint8)
        augmentation = Augmentation(bounds, flip=mirrored)
        resized, expected, _ = transform(picture, boxes, labels, augmentation, antialias=False)
        here = np.flatnonzero(chosen & (of_image == position))
        kept = here[sides[here] >= 1]
        assert found.boxes[kept].tolist() == expected.tolist()
        assert all(size == [resized.shape[-1], resized.shape[-2]] for size in found.sizes[here].tolist())
    old = np.stack([table.widths, table.heights], axis=1)
    assert [tuple(size) for size in resized_sizes(old, bounds).tolist()] == [
        resized_size(w, h, bounds) for w, h in old.tolist()
    ]


def test_what_is_used_and_left_out_is_one_sentence(tmp_path: Path) -> None:
    boxes = [
        box(1, 0, 0, 100, 100),
        box(1, 0, 0, 100, 9),  # 0.9 px at 80 of 800
        box(1, 0, 0, 50, 50, iscrowd=1),
        box(1, 0, 0, 50, 50, ignore=1),
        box(1, 0, 0, 50, 0.5),
        box(1, 900, 0, 50, 50),
        box(3, 0, 0, 10, 10),
    ]
    table = table_of(tmp_path, [(800, 800), (800, 800), (24, 24)], boxes)
    images = ImagesConfig(short=80, long=80)
    assert count_targets(table, images, drop_empty=True).sentence() == (
        "1 image, 1 object; left out: 1 object below 1 px at this size, 1 object of images left out, 1 crowd region, "
        "1 ignored object, 1 object below 1 px as annotated, 1 object outside the image, "
        "1 image without objects (drop_empty), 1 image with a side below 32 px (drop_empty)"
    )
    kept = count_targets(table, images, drop_empty=False)
    assert kept.sentence().startswith("3 images (1 as background), 2 objects; left out: 1 object below 1 px at this")
    assert "drop_empty" not in kept.sentence()
    assert (kept.not_annotated, kept.small) == (1, 1)


def test_sizes_that_are_drawn_give_a_range(tmp_path: Path) -> None:
    table = table_of(tmp_path, [(800, 800)], [box(1, 0, 0, 100, 100), box(1, 0, 0, 100, 9), box(1, 0, 0, 3, 3)])
    found = count_targets(table, ImagesConfig(short=80, long=160, jitter=(80, 160)), drop_empty=False)
    assert (found.targets, found.vanishing) == ((1, 2), (2, 1))
    assert found.sentence() == (
        "1 image, 1 to 2 objects; left out: 1 to 2 objects below 1 px at shorter sides of 160 to 80 px"
    )


def test_nothing_is_left_where_all_are_too_small(tmp_path: Path) -> None:
    table = table_of(tmp_path, [(2000, 1500)], [box(1, 0, 0, 18, 18), box(1, 50, 50, 18, 18)])
    found = count_targets(table, ImagesConfig(short=64, long=96), drop_empty=False)
    assert not found.trains
    assert found.vanishing == (2, 2)
    assert found.largest == pytest.approx(18 * 85 / 2000, abs=1e-4)
    assert count_targets(table, ImagesConfig(short=64, long=96, jitter=(64, 96)), drop_empty=False).trains is False


def test_a_split_without_images_or_objects_is_counted_too(tmp_path: Path) -> None:
    for images, annotations in (([(50, 50)], []), ([], []), ([], [box(1, 0, 0, 5, 5)])):
        found = count_targets(table_of(tmp_path, images, annotations), ImagesConfig(), drop_empty=False)
        assert (found.images, found.targets, found.largest) == (len(images), (0, 0), 0)
