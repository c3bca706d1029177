"""What is detected in tiles becomes the detections of their picture: each object counts once, and no two become one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from tood.config.backbone import PixelsConfig
from tood.config.datasets import TileConfig
from tood.config.images import ImagesConfig
from tood.config.method import InferenceConfig
from tood.data.loader import Reading
from tood.data.network_input import NetworkInput
from tood.data.split_table import SplitTable
from tood.data.tiles import tile_windows
from tood.detection.points import points_of
from tood.detection.postprocess import Detections
from tood.detection.predictions import Predictions
from tood.evaluation.alignment_split import analyse_split
from tood.evaluation.detections import SplitDetections, SplitImages, detect_in, detect_split
from tood.evaluation.tile_merging import merge_tiles

TILE = TileConfig(size=100, overlap=0.2)
SIDE_BY_SIDE = tile_windows(180, 100, TILE)
"""From 0 to 100 and from 80 to 180 px."""
Box = tuple[float, float, float, float]
Found = tuple[Box, float, int]
"""Box in the picture, score and class."""


def merged(windows: Any, *found: list[Found], **inference: Any) -> list[Found]:
    """What is found in each tile, given and returned in px of the picture."""
    parts = []
    for (left, top, *_), own in zip(windows.tolist(), found, strict=True):
        boxes = torch.tensor([box for box, _, _ in own]).reshape(-1, 4) - torch.tensor([left, top, left, top])
        scores, labels = torch.tensor([score for _, score, _ in own]), torch.tensor([label for *_, label in own])
        parts.append(Detections(boxes, scores, labels.long()))
    whole = merge_tiles(parts, torch.from_numpy(windows), InferenceConfig(**inference))
    assert whole.scores.tolist() == sorted(whole.scores.tolist(), reverse=True)
    rows = zip(whole.boxes.tolist(), whole.scores.tolist(), whole.labels.tolist(), strict=True)
    return [(tuple(box), round(score, 4), label) for box, score, label in rows]  # type: ignore[misc]


def test_an_object_in_both_tiles_counts_once_with_its_best_score() -> None:
    a: Found = ((84, 10, 95, 20), 0.6, 0)
    b: Found = ((85, 10, 95, 20), 0.8, 0)
    assert merged(SIDE_BY_SIDE, [a], [b]) == [b]


def test_objects_of_other_classes_or_elsewhere_are_others() -> None:
    a: Found = ((84, 10, 95, 20), 0.6, 0)
    b: Found = ((84, 10, 95, 20), 0.8, 1)
    c: Found = ((84, 30, 95, 40), 0.7, 0)
    assert merged(SIDE_BY_SIDE, [a], [b, c]) == [b, c, a]


def test_within_a_tile_nothing_is_merged() -> None:
    a: Found = ((20, 10, 40, 30), 0.9, 0)
    b: Found = ((21, 10, 40, 30), 0.8, 0)  # as score voting may leave them
    assert merged(SIDE_BY_SIDE, [a, b], []) == [a, b]


@pytest.mark.parametrize("scores", [(0.5, 0.9), (0.9, 0.5)])
@pytest.mark.parametrize("part", [(82, 10, 100, 30), (84, 13, 100, 30), (82, 10, 99.5, 28), (82, 4, 100, 36)])
def test_a_cut_part_vanishes_in_the_whole_object_whichever_scores_better(
    part: Box, scores: tuple[float, float]
) -> None:
    whole: Box = (82, 10, 130, 30)
    assert merged(SIDE_BY_SIDE, [(part, scores[0], 0)], [(whole, scores[1], 0)]) == [(whole, max(scores), 0)]
    mirrored: Box = (180 - whole[2], whole[1], 180 - whole[0], whole[3])
    cut: Box = (180 - part[2], part[1], 180 - part[0], part[3])
    assert merged(SIDE_BY_SIDE, [(mirrored, scores[1], 0)], [(cut, scores[0], 0)]) == [(mirrored, max(scores), 0)]


def test_parts_in_tiles_that_do_not_touch_vanish_in_the_whole_object_between_them() -> None:
    row = tile_windows(200, 100, TILE)
    whole: Found = ((97, 0, 103, 4), 0.5, 0)
    parts: list[Found] = [((97, 0, 100, 4), 0.6, 0), ((100, 0, 103, 4), 0.4, 0)]
    assert merged(row, [parts[0]], [whole], [parts[1]]) == [(whole[0], 0.6, 0)]


def test_two_halves_of_an_object_longer_than_the_overlap_become_one() -> None:
    left: Found = ((30, 10, 100, 50), 0.7, 0)
    right: Found = ((80, 11, 150, 49), 0.9, 0)
    assert merged(SIDE_BY_SIDE, [left], [right]) == [((30, 11, 150, 49), 0.9, 0)]
    other: Found = ((80, 60, 150, 90), 0.9, 0)  # another row
    assert merged(SIDE_BY_SIDE, [left], [other]) == [other, left]
    assert merged(SIDE_BY_SIDE, [left], [(*right[:2], 1)]) == [(*right[:2], 1), left], "another class"


def test_an_object_across_three_tiles_and_one_across_four_corners_become_whole() -> None:
    row = tile_windows(260, 100, TILE)
    parts: list[Found] = [((30, 10, 100, 50), 0.5, 0), ((80, 10, 180, 50), 0.6, 0), ((160, 10, 220, 50), 0.9, 0)]
    assert merged(row, *([one] for one in parts)) == [((30, 10, 220, 50), 0.9, 0)]
    square = tile_windows(180, 180, TILE)
    corners: list[Box] = [(40, 40, 100, 100), (80, 40, 140, 100), (40, 80, 100, 140), (80, 80, 140, 140)]
    assert merged(square, *([(one, 0.8, 0)] for one in corners)) == [((40, 40, 140, 140), 0.8, 0)]


def test_neighbours_that_are_cut_by_opposite_edges_are_two() -> None:
    a: Found = ((60, 10, 82, 30), 0.8, 0)  # whole in the first tile, and a sliver in the second
    b: Found = ((97, 10, 120, 30), 0.9, 0)  # the other way round
    assert merged(SIDE_BY_SIDE, [a, ((97, 10, 100, 30), 0.3, 0)], [((80, 10, 82, 30), 0.2, 0), b]) == [b, a]


def test_the_edge_of_the_picture_cuts_nothing() -> None:
    a: Found = ((81, 0, 99, 40), 0.8, 0)
    inside: Found = ((84, 0, 96, 25), 0.7, 0)  # touches the picture's edge and lies in the other
    assert merged(tile_windows(180, 100, TILE), [a], [inside]) == [a, inside]


def test_only_the_best_are_kept_over_all_tiles() -> None:
    left: list[Found] = [((10, 10.0 * k, 18, 10.0 * k + 8), 0.1 * k, 0) for k in range(1, 9)]
    right: list[Found] = [((140, 10.0 * k, 148, 10.0 * k + 8), 0.1 * k + 0.05, 0) for k in range(1, 9)]
    kept = merged(SIDE_BY_SIDE, left, right, max_detections=3)
    assert [round(score, 2) for _, score, _ in kept] == [0.85, 0.8, 0.75]


def test_tiles_without_detections(tmp_path: Path) -> None:
    assert merged(SIDE_BY_SIDE, [], []) == []


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_objects_that_tiles_detect_perfectly_come_out_as_they_are(seed: int) -> None:
    """Apart from each other, at most as long as the overlap, and each found wherever a tile shows some of it."""
    rng = np.random.default_rng(seed)
    width, height = rng.integers(40, 420, 2).tolist()
    cells = [(x, y) for x in range(0, width - 31, 32) for y in range(0, height - 31, 32)]
    objects: list[Found] = []
    for number, place in enumerate(rng.permutation(len(cells))[:15].tolist()):
        x, y = cells[place] + rng.integers(0, 9, 2)
        w, h = rng.integers(4, 21, 2)
        objects.append(((float(x), float(y), float(x + w), float(y + h)), 0.9 - 0.05 * number, int(rng.integers(2))))
    windows = tile_windows(width, height, TILE)
    found: list[list[Found]] = []
    for left, top, w, h in windows.tolist():
        own: list[Found] = []
        for (x1, y1, x2, y2), score, label in objects:
            part = (max(x1, left), max(y1, top), min(x2, left + w), min(y2, top + h))
            if part[2] - part[0] >= 1 and part[3] - part[1] >= 1:
                own.append((part, score - float(rng.uniform(0, 0.04)), label))
        found.append(own)
    result = merged(windows, *found)
    assert sorted((box, label) for box, _, label in result) == sorted((box, label) for box, _, label in objects)


# A whole split


class Bright(nn.Module):
    """A box of 16 px around every location at which the image is bright, of class 1 where it is not green."""

    def forward(self, images: Tensor) -> Predictions:
        points = points_of([images[:, :1, ::8, ::8]], (8,), torch.float32)
        samples = images[:, :, ::8, ::8].flatten(2).transpose(1, 2)
        red, green = samples[..., 0], samples[..., 1]
        logits = torch.stack([green, red], dim=-1) * 4 - 8
        boxes = torch.cat([points.centres - 8, points.centres + 8], dim=1)
        return Predictions(points, logits, boxes.expand(len(images), -1, -1))


def write_split(folder: Path, size: tuple[int, int], dots: list[tuple[int, int]]) -> SplitTable:
    """Black pictures of (width, height), one red dot of 16 px in the first, all in the second."""
    entries, objects = [], []
    for number, some in enumerate([dots[:1], dots], start=5):
        picture = Image.new("RGB", size)
        for x, y in some:
            picture.paste((255, 0, 0), (x, y, x + 16, y + 16))
            objects.append({"image_id": number, "category_id": 7, "bbox": [x, y, 16, 16], "area": 256})
        picture.save(folder / f"{number}.png")
        entries.append({"id": number, "file_name": f"{number}.png", "width": size[0], "height": size[1]})
    categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    path = folder / "val.json"
    path.write_text(json.dumps({"images": entries, "annotations": objects, "categories": categories}))
    return SplitTable.of_json(path)


GIVEN = NetworkInput(ImagesConfig(short=64, long=128), PixelsConfig(mean=(0, 0, 0), std=(51, 51, 51)))


def detected(table: SplitTable, folder: Path, tile: TileConfig | None) -> SplitDetections:
    return detect_split(Bright(), table, folder, GIVEN, InferenceConfig(), tile=tile, device=torch.device("cpu"))  # type: ignore[arg-type]


def share_of(rank: int, table: SplitTable, folder: Path, tile: TileConfig) -> list[dict[str, Any]]:
    """What one of two processes finds."""
    with SplitImages(table, folder, GIVEN, reading=Reading(), tile=tile, rank=rank, world=2) as images:
        return detect_in(Bright(), images, InferenceConfig(), device=torch.device("cpu")).results  # type: ignore[arg-type]


def test_one_tile_gives_the_same_numbers_as_none(tmp_path: Path) -> None:
    table = write_split(tmp_path, (90, 60), [(20, 10), (50, 30)])
    whole = detected(table, tmp_path, None)
    tiled = detected(table, tmp_path, TileConfig(size=96))
    assert tiled.results == whole.results
    assert len(whole.results) > 4
    assert tiled.images == whole.images == 1, "the first includes the start-up time"


def test_dots_in_tiles_are_found_once_at_their_places_by_any_number_of_processes(tmp_path: Path) -> None:
    dots = [(0, 0), (40, 24), (72, 24), (56, 72), (128, 8), (136, 104), (56, 40)]
    table = write_split(tmp_path, (152, 120), dots)
    tile = TileConfig(size=64, overlap=0.25)
    found = detected(table, tmp_path, tile)
    assert found.images == 1
    best = [one for one in found.results if one["score"] > 0.99]
    assert {one["image_id"] for one in best} == {5, 6}
    assert {one["category_id"] for one in best} == {7}
    for image, own in ((5, dots[:1]), (6, dots)):
        boxes = [one["bbox"] for one in best if one["image_id"] == image]
        for x, y in own:
            assert any(abs(box[0] - x) <= 8 and abs(box[1] - y) <= 8 for box in boxes)
    shares = [share_of(rank, table, tmp_path, tile) for rank in range(2)]
    assert [one for share in shares for one in share] == found.results


def test_alignment_is_measured_in_every_tile_and_told_in_the_picture(tmp_path: Path) -> None:
    table = write_split(tmp_path, (112, 64), [(56, 24)])
    tile = TileConfig(size=64, overlap=0.25)
    found = analyse_split(
        Bright(),  # type: ignore[arg-type]
        table,
        tmp_path,
        GIVEN,
        InferenceConfig(),
        tile=tile,
        device=torch.device("cpu"),
    )
    assert found.images == 2
    assert found.objects == 4, "each of two is whole in the second tile, and half in the first"
    assert sorted(found.best.objects.tolist()) == [[56, 24, 64, 40]] * 2 + [[56, 24, 72, 40]] * 2
    assert set(found.best.image_ids.tolist()) == {5, 6}
    assert ((found.best.points[:, 1, 0] >= 48) & (found.best.points[:, 1, 0] <= 80)).all()
