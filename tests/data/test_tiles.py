"""Tiles cover a picture, and a split in tiles has every object where it is seen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from tood.config.backbone import PixelsConfig
from tood.config.datasets import TileConfig, VocDataset
from tood.config.images import ImagesConfig
from tood.data import dataset as dataset_module
from tood.data.augmentation import Visit
from tood.data.dataset import DetectionDataset
from tood.data.loader import test_batches as tiles_in_batches
from tood.data.made_from import made_from_digest
from tood.data.network_input import NetworkInput
from tood.data.schedule_fit import TINY, fit_images, tile_size_for
from tood.data.split_table import SplitTable
from tood.data.target_counts import count_targets
from tood.data.tiled_split import cut_into_tiles, training_tiles
from tood.data.tiles import tile_starts, tile_windows
from tood.data.training_targets import Fate, TrainingTargets, fates
from tood.io.errors import UserError

TILE = TileConfig(size=64, overlap=0.25)
"""Begins every 48 px."""
tile_configs = st.builds(TileConfig, size=st.integers(64, 400), overlap=st.floats(0.05, 0.5))
lengths = st.integers(1, 3000)


def table_of(folder: Path, images: list[tuple[int, int]], boxes: list[dict[str, Any]]) -> SplitTable:
    """Images 11, 12, … of a size (w, h), the first the annotated image 1, with annotations of class 0 or 1."""
    entries = [
        {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
        for number, (width, height) in enumerate(images, start=11)
    ]
    categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    path = folder / "train.json"
    path.write_text(json.dumps({"images": entries, "annotations": boxes, "categories": categories}))
    return SplitTable.of_json(path)


def box(image: int, *bbox: float, category: int = 3, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(bbox), **more}


def objects(table: SplitTable) -> list[tuple[int, list[float]]]:
    """Image ids and boxes."""
    return list(zip(table.annotations.image_ids.tolist(), table.annotations.boxes.tolist(), strict=True))


# Geometry


@given(lengths, tile_configs)
def test_tiles_cover_a_side_with_the_overlap_and_stay_inside(length: int, tile: TileConfig) -> None:
    starts = tile_starts(length, tile)
    side = min(length, tile.size)
    assert starts[0] == 0
    assert starts[-1] + side == length
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (side - steps >= tile.overlap * tile.size).all()
    assert steps.max(initial=0) - steps.min(initial=length) <= 1, "evenly spread"
    fewest = 1 if length <= tile.size else -(-(length - tile.size) // int(tile.size * (1 - tile.overlap))) + 1
    assert len(starts) == fewest


@given(lengths, lengths, tile_configs)
def test_windows_are_all_pairs_of_starts_and_of_one_size(width: int, height: int, tile: TileConfig) -> None:
    windows = tile_windows(width, height, tile)
    expected = [[x, y] for y in tile_starts(height, tile) for x in tile_starts(width, tile)]
    assert windows[:, :2].tolist() == expected
    assert (windows[:, 2:] == [min(width, tile.size), min(height, tile.size)]).all()
    if width <= tile.size and height <= tile.size:
        assert windows.tolist() == [[0, 0, width, height]]


@pytest.mark.parametrize("wrong", [{"size": 63}, {"size": True}, {"overlap": 0}, {"overlap": 0.51}, {"width": 9}])
def test_a_tile_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TileConfig.model_validate(wrong)


def test_prepared_data_do_not_depend_on_tiles() -> None:
    plain = VocDataset.model_validate({"format": "voc", "name": "a", "root": "a", "draw": {}})
    tiled = plain.model_copy(update={"tile": TILE})
    assert made_from_digest(plain, None) == made_from_digest(tiled, None)


# Objects in tiles


def test_objects_belong_to_the_tiles_that_show_enough_of_them(tmp_path: Path) -> None:
    boxes = [
        box(11, 10, 10, 20, 20),  # in the first tile alone
        box(11, 50, 10, 10, 20, category=7),  # whole in both, which share 48 to 64
        box(11, 40, 30, 20, 10),  # whole in the first, 60 % in the second
        box(11, 30, 40, 20, 10, area=50),  # whole in the first, 10 % in the second
        box(12, 1, 2, 3, 4),
    ]
    tiled = cut_into_tiles(table_of(tmp_path, [(112, 64), (50, 60)], boxes), TILE)
    assert objects(tiled) == [
        (1, [10, 10, 20, 20]),
        (1, [50, 10, 10, 20]),
        (2, [2, 10, 10, 20]),
        (1, [40, 30, 20, 10]),
        (2, [0, 30, 12, 10]),
        (1, [30, 40, 20, 10]),
        (3, [1, 2, 3, 4]),
    ]
    assert tiled.annotations.areas.tolist() == [400, 200, 200, 200, 120, 50, 12]
    assert tiled.annotations.category_ids.tolist() == [3, 7, 7, 3, 3, 3, 3]
    assert tiled.tiles is not None
    assert tiled.tiles.picture_ids.tolist() == [11, 11, 12]
    assert tiled.tiles.windows.tolist() == [[0, 0, 64, 64], [48, 0, 64, 64], [0, 0, 50, 60]]
    assert tiled.file_names.tolist() == ["11.png", "11.png", "12.png"]
    assert tiled.image_ids.tolist() == [1, 2, 3]


def test_an_object_larger_than_every_tile_is_in_the_tile_that_shows_most(tmp_path: Path) -> None:
    tiled = cut_into_tiles(table_of(tmp_path, [(304, 304)], [box(11, 10, 10, 290, 290)]), TILE)
    assert objects(tiled) == [(8, [0, 0, 64, 64])], "the first of those that it fills"
    assert tiled.annotations.areas.tolist() == [64 * 64]


@st.composite
def splits(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[dict[str, Any]]]:
    images = draw(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), min_size=1, max_size=4))
    numbers = st.floats(-50, 450, allow_nan=False)
    sides = st.one_of(st.floats(0, 12), st.floats(0, 300))
    found = draw(st.lists(st.tuples(st.integers(11, 15), numbers, numbers, sides, sides), max_size=12))
    crowds = draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found)))
    return images, [box(*one, iscrowd=int(crowd)) for one, crowd in zip(found, crowds, strict=True)]


@settings(max_examples=40)
@given(splits(), tile_configs)
def test_no_object_is_lost_and_each_lies_where_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    split: tuple[list[tuple[int, int]], list[dict[str, Any]]],
    tile: TileConfig,
) -> None:
    table = table_of(tmp_path_factory.getbasetemp(), *split)
    tiled = cut_into_tiles(table, tile)
    tiles = tiled.tiles
    assert tiles is not None
    of_tile, _, known = tiled.locate_annotations()
    _, _, was_known = table.locate_annotations()
    assert (~known).sum() == (~was_known).sum()
    whole = table.annotations.boxes.tolist()
    targets_before, targets = fates(table) == Fate.TARGET, fates(tiled) == Fate.TARGET
    assert targets.sum() >= targets_before.sum()
    corners = tiles.corners[of_tile]
    shown = tiled.annotations.boxes.copy()
    shown[known, :2] += corners[known]
    for x, y, w, h in shown[known].tolist():
        assert any(
            x >= a - 1e-9 and y >= b - 1e-9 and x + w <= a + c + 1e-6 and y + h <= b + d + 1e-6 for a, b, c, d in whole
        ), "no box is larger than, or outside, one that is annotated"
    alone = ~np.isin(table.image_ids, table.image_ids[(table.widths > tile.size) | (table.heights > tile.size)])
    for picture in table.image_ids[alone].tolist():
        (number,) = tiled.image_ids[tiles.picture_ids == picture]
        before = table.annotations.boxes[table.annotations.image_ids == picture]
        assert tiled.annotations.boxes[tiled.annotations.image_ids == number].tolist() == before.tolist()


# What is trained on


def test_training_uses_as_many_empty_tiles_as_there_are_others_and_none_with_part_of_an_object(tmp_path: Path) -> None:
    boxes = [box(11, 30, 40, 20, 10), box(12, 0, 0, 9, 9, iscrowd=1)]  # 10 % of the first in tile 2
    table = table_of(tmp_path, [(304, 64), (50, 50), (60, 60), (64, 208)], boxes)
    every, used = cut_into_tiles(table, TILE), training_tiles(table, TILE)
    assert len(every.image_ids) == 6 + 1 + 1 + 4
    assert used.image_ids.tolist() == [1, 5, 7, 10], "two with annotations; of 3-6 and 8-12 two at even distances"
    assert used.tiles is not None
    assert (used.tiles.unused, used.tiles.pictures) == (8, 3)
    found = count_targets(used, ImagesConfig(short=64, long=64), drop_empty=False)
    assert found.sentence() == (
        "4 tiles of 64 px of 3 images (3 as background), 1 object in them; left out: 1 crowd region, "
        "8 tiles without objects (at most as many are used as have some) or with less than 30% of one"
    )
    dropped = count_targets(used, ImagesConfig(short=64, long=64), drop_empty=True)
    assert (dropped.images, dropped.emptiness()) == (2, ["2 tiles without objects"])
    assert len(TrainingTargets.of(used, drop_empty=True)) == 2


def test_without_tiles_and_without_images_nothing_changes(tmp_path: Path) -> None:
    table = table_of(tmp_path, [(304, 64)], [box(11, 30, 40, 20, 10)])
    assert training_tiles(table, None) is cut_into_tiles(table, None) is table
    empty = training_tiles(table_of(tmp_path, [], [box(11, 1, 1, 5, 5)]), TILE)
    assert (len(empty.image_ids), len(empty.annotations)) == (0, 1)


def test_the_input_is_fitted_to_the_tiles(tmp_path: Path) -> None:
    boxes = [box(11, 100 * k, 100 * k, 12, 12) for k in range(9)]
    table = table_of(tmp_path, [(2000, 1000)], boxes)
    images = ImagesConfig.model_validate({"fit": {"least": 64, "most": 640, "object_side": 24}})
    assert fit_images(images, table).long > 640, "as large as it may be, for the objects are small in the picture"
    tiled = training_tiles(table, TileConfig(size=256))
    fitted = fit_images(images, tiled)
    assert (fitted.short, fitted.long) == (512, 512), "twice a tile"
    assert tile_size_for(images, table) == (480, 2 * TINY)
    assert tile_size_for(ImagesConfig(short=64, long=90), table) == (64, 12.0)


# Pictures


def noise(folder: Path, number: int, size: tuple[int, int]) -> np.ndarray:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{number}.png")
    return pixels.transpose(2, 0, 1)


def dataset_of(folder: Path, table: SplitTable, *, train: bool = False) -> DetectionDataset:
    given = NetworkInput(ImagesConfig(short=64, long=64, flip=0.0), PixelsConfig())
    return DetectionDataset(TrainingTargets.of(table), folder, given, train=train, seed=0)


@pytest.mark.parametrize("train", [False, True])
def test_samples_are_the_pixels_of_the_tiles(tmp_path: Path, train: bool) -> None:
    sizes = [(112, 100), (64, 30)]
    pictures = [noise(tmp_path, number, size) for number, size in enumerate(sizes, start=11)]
    data = dataset_of(tmp_path, cut_into_tiles(table_of(tmp_path, sizes, [box(11, 50, 50, 10, 8)]), TILE), train=train)
    tiles = data.targets.tiles
    assert tiles is not None
    for position, (left, top, width, height) in enumerate(tiles.windows.tolist()):
        picture = pictures[int(tiles.picture_ids[position]) - 11]
        sample = data.sample(position, Visit())
        expected = torch.from_numpy(picture[:, top : top + height, left : left + width])
        if (width, height) == (64, 64):
            assert torch.equal(sample.image, expected)
            assert sample.boxes.tolist() == [[50 - left, 50 - top, 60 - left, 58 - top]]
        assert sample.original_size == (height, width)
        assert data.input_size(position, Visit()) == sample.image.shape[:0:-1]
    assert data.file_names_of([2]) == ["11.png (64x64 pixels from 48,0)"]


def test_evaluation_decodes_each_picture_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(160, 100), (160, 100)]
    for number, size in enumerate(sizes, start=11):
        noise(tmp_path, number, size)
    decode, decoded = dataset_module.decode_for, []
    monkeypatch.setattr(
        dataset_module, "decode_for", lambda path, bounds: decoded.append(path.name) or decode(path, bounds)
    )
    data = dataset_of(tmp_path, cut_into_tiles(table_of(tmp_path, sizes, []), TILE))
    assert len(list(tiles_in_batches(data, batch=4, rank=0, world=1))) == 4
    assert decoded == ["11.png", "12.png"]


def test_a_picture_that_is_not_the_annotated_one_is_refused(tmp_path: Path) -> None:
    noise(tmp_path, 11, (100, 112))
    data = dataset_of(tmp_path, cut_into_tiles(table_of(tmp_path, [(112, 100)], []), TILE))
    with pytest.raises(UserError, match=r"11\.png: is 100x112 pixels, but .* says 112x100"):
        data[0]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_tiles_of_a_picture_follow_one_another_in_one_process(tmp_path: Path, world: int) -> None:
    sizes = [(160, 100), (30, 64), (112, 64), (160, 100), (64, 200)]
    for number, size in enumerate(sizes, start=11):
        noise(tmp_path, number, size)
    data = dataset_of(tmp_path, cut_into_tiles(table_of(tmp_path, sizes, []), TILE))
    tiles = data.targets.tiles
    assert tiles is not None
    seen: list[int] = []
    pictures: list[int] = []
    for rank in range(world):
        for batch in tiles_in_batches(data, batch=4, rank=rank, world=world):
            ids = batch.image_ids.tolist()
            assert len({int(tiles.picture_ids[number - 1]) for number in ids}) == 1
            seen += ids
            pictures += tiles.picture_ids[np.array(ids) - 1].tolist()
    assert sorted(seen) == data.targets.image_ids.tolist()
    order = list(dict.fromkeys(pictures))
    assert pictures == [picture for picture in order for _ in range(pictures.count(picture))]
    assert [number for picture in sorted(order) for number in seen if tiles.picture_ids[number - 1] == picture] == (
        sorted(seen)
    ), "row by row"
