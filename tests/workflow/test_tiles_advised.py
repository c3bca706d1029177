"""Small objects in large pictures: the training says which tiles would help, and what it makes of tiles."""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tood.config.datasets import YoloDataset
from tood.config.study import load_study
from tood.data.prepared import PreparedDataset, PreparedSplit
from tood.verbs.usable_data import UsableData, usable_data

PARAMS = Path(__file__).parents[2] / "params"


def used(folder: Path, boxes: list[list[float]], tile: dict[str, Any] | None = None) -> UsableData:
    """What the study 'own' makes of 40 pictures of 4000 x 3000 px with ``boxes`` each."""
    images = [{"id": k, "file_name": f"{k}.jpg", "width": 4000, "height": 3000} for k in range(1, 41)]
    objects = [{"image_id": image["id"], "category_id": 1, "bbox": box} for image in images for box in boxes]
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "mite"}]}
    (folder / "train.json").write_text(json.dumps(content))
    split = PreparedSplit("train", folder / "train.json", folder, len(images), len(objects), "")
    splits = MappingProxyType({"train": split, "val": split})
    prepared = PreparedDataset("mine", "yolo", folder, ("mite",), splits, "", "", "", "", "", ())
    described = {"format": "yolo", "name": "mine", "root": "own", "splits": {"train": "a", "val": "b"}, "tile": tile}
    study = load_study("own", PARAMS, on=YoloDataset.model_validate(described))
    return usable_data(next(iter(study.runs.values())), prepared)


MITES = [[100.0 * k, 50.0 * k, 6, 6] for k in range(1, 20)]


def test_tiles_are_advised_with_a_size_that_helps(tmp_path: Path) -> None:
    (note,) = used(tmp_path, MITES).notes
    assert "'tile: {size: 224}' in params/datasets/mine.yaml" in note
    assert "the median object has 17 px" in note
    (note,) = used(tmp_path, MITES, {"size": 2000}).notes
    assert "take smaller tiles with 'tile: {size: 224}'" in note
    found = used(tmp_path, MITES, {"size": 224})
    assert not found.notes
    assert found.targets.sentence().startswith("1,520 tiles of 224 px of 40 images (")


def test_objects_that_no_tile_shows_whole_are_counted(tmp_path: Path) -> None:
    (note,) = used(tmp_path, [*MITES, [50, 50, 300, 100]], {"size": 224}).notes
    assert note.startswith("note: 40 objects of 800 longer than a tile (tile.size: 224)")
