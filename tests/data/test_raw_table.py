"""A split as read gives the table that it is prepared as."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from tood.config.datasets import CocoDataset, CocoSplit, VocDataset, YoloDataset
from tood.data.columns import Annotations
from tood.data.findings import Findings
from tood.data.formats.reading import OnDisk, read_dataset
from tood.data.prepare import prepare_dataset
from tood.data.raw_table import raw_table
from tood.data.split_table import SplitTable

PARAMS = Path(__file__).parents[2] / "params"


def described(layout: str, root: Path) -> OnDisk:
    place = {"name": "mine", "root": str(root)}
    if layout == "coco":
        names = ("train", "val")
        splits = {name: CocoSplit(images=name, annotations=f"annotations/{name}.json") for name in names}
        return CocoDataset(format="coco", splits=splits, **place)
    if layout == "voc":
        lists = {"train": "ImageSets/Main/train.txt", "val": "ImageSets/Main/val.txt"}
        return VocDataset(format="voc", splits=lists, **place)
    return YoloDataset(format="yolo", splits={"train": "images/train", "val": "images/val"}, **place)


@pytest.mark.parametrize("layout", ["coco", "voc", "yolo"])
def test_it_is_the_prepared_table(layout: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    config = described(layout, request.getfixturevalue(f"{layout}_root"))
    prepared = prepare_dataset(config, tmp_path / "data/mine", mirror=None, params_root=PARAMS)
    dataset = read_dataset(config, Path(str(config.root)), Findings())
    for split in dataset.splits:
        expected, found = SplitTable.of_split(prepared.split(split.name)), raw_table(split, dataset.categories)
        assert found.classes == expected.classes
        assert found.file_names.tolist() == expected.file_names.tolist()
        for name in ("category_ids", "image_ids", "widths", "heights"):
            assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name
        for one in fields(Annotations):
            ours, theirs = getattr(found.annotations, one.name), getattr(expected.annotations, one.name)
            assert (ours.dtype, ours.tolist()) == (theirs.dtype, theirs.tolist()), one.name


def test_images_of_unknown_size_are_left_out(tmp_path: Path, coco_root: Path) -> None:
    dataset = read_dataset(described("coco", coco_root), coco_root, Findings())
    (first, second) = dataset.splits[0].images
    split = replace(dataset.splits[0], images=(replace(first, width=0), second))
    assert raw_table(split, dataset.categories).image_ids.tolist() == [second.id]
