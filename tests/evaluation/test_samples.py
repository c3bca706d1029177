"""Sample pictures: a few, spread over the split, replacing only their own."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tood.data.box_drawing import class_colour
from tood.data.prepared import PreparedSplit
from tood.data.split_table import SplitTable
from tood.evaluation.detections import write_results
from tood.evaluation.samples import write_samples
from tood.io.read import read_json

IDS = [3 * number for number in range(1, 21)]


@pytest.fixture
def split(tmp_path: Path) -> PreparedSplit:
    """20 black pictures with one object each."""
    (tmp_path / "images").mkdir()
    images, objects = [], []
    for number in IDS:
        Image.new("RGB", (48, 48)).save(tmp_path / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 48, "height": 48})
        box = {"bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
        objects.append({"id": number, "image_id": number, "category_id": 7, **box})
    annotations = tmp_path / "val.json"
    categories = [{"id": 7, "name": "cell"}]
    annotations.write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))
    return PreparedSplit("val", annotations, tmp_path / "images", len(IDS), len(IDS), "0")


def found(score: float) -> list[dict[str, object]]:
    return [{"image_id": i, "category_id": 7, "bbox": [10, 20, 30, 20], "score": score} for i in IDS]


def test_pictures_are_spread_over_the_split_and_show_certain_detections(split: PreparedSplit, tmp_path: Path) -> None:
    for score, expected in ((0.31, class_colour(0)), (0.29, (0, 0, 0))):
        write_samples(tmp_path / "samples", SplitTable.of_split(split), split.images, found(score))
        paths = sorted((tmp_path / "samples").iterdir())
        places = [IDS.index(int(path.stem.removeprefix("image-"))) for path in paths]
        assert len(places) == 8
        assert set(np.diff(places)) <= {2, 3}
        with Image.open(paths[0]) as picture:
            assert picture.size == (480, 480)
            assert picture.getpixel((100, 300)) == expected  # the left edge of (10, 20) to (40, 40), ten times larger


def test_older_pictures_are_replaced_and_foreign_files_stay(split: PreparedSplit, tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    (folder / "image-folder").mkdir(parents=True)
    stale, foreign = folder / "image-000999.png", [folder / "notes.txt", folder / "image-best.png", folder / "a.png"]
    for path in (stale, *foreign):
        path.write_text("old")
    write_samples(folder, SplitTable.of_split(split), split.images, [])
    assert not stale.exists()
    assert [path.read_text() for path in foreign] == ["old"] * 3
    assert len(list(folder.iterdir())) == 8 + 3 + 1


def test_result_file_is_read_back_as_written(tmp_path: Path) -> None:
    write_results(tmp_path / "detections.json", found(1 / 3))
    assert read_json(tmp_path / "detections.json") == found(1 / 3)
    assert (tmp_path / "detections.json").read_text().count("\n") == 1
