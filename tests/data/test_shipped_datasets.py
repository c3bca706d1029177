"""The data sets that come with a configuration here, and the real files where they are at hand."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tood.config.datasets import load_dataset
from tood.data.fetch.manifest import read_manifest
from tood.data.prepare import prepare_dataset

PARAMS = Path(__file__).parents[2] / "params"
SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "files", "holds"),
    [
        ("bccd", 732, "ImageSets/Main/val.txt"),
        ("coco_tiny", 162, "annotations/instances_val2017.json"),
    ],
)
def test_our_manifests_list_all_that_the_configuration_names(name: str, files: int, holds: str) -> None:
    config = load_dataset(name, PARAMS)
    assert config.format != "shapes"
    assert config.source is not None
    assert config.source.manifest is not None
    manifest = read_manifest(PARAMS / "datasets" / config.source.manifest)
    assert len(manifest.entries) == files
    assert holds in manifest.entries


def test_every_archive_is_pinned_and_says_how_it_is_verified() -> None:
    for name in ("bccd", "coco_tiny", "coco2017"):
        source = load_dataset(name, PARAMS).source
        assert source.manifest or source.counts
        assert source.origin
        assert source.license
        for archive in source.archives:
            assert archive.checksum_source
            assert "/master" not in archive.url
            assert "/main" not in archive.url


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data is not beside the repository")
@pytest.mark.parametrize(
    ("name", "images", "classes", "crowds", "notes"),
    [
        (
            "bccd",
            {"train": 205, "val": 87, "test": 72},
            {"RBC": 4153, "WBC": 372, "Platelets": 361},
            0,
            ("BloodImage_00338: 1 box without area dropped", "BloodImage_00343: 1 box without area dropped"),
        ),
        ("coco_tiny", {"train": 80, "val": 80}, {"person": 359, "toothbrush": 3}, 17, ()),
    ],
)
def test_the_real_data_sets(
    tmp_path: Path,
    name: str,
    images: dict[str, int],
    classes: dict[str, int],
    crowds: int,
    notes: tuple[str, ...],
) -> None:
    dataset = prepare_dataset(
        load_dataset(name, PARAMS),
        tmp_path / name,
        mirror=SHARED / name,
        params_root=PARAMS,
    )
    assert {key: split.image_count for key, split in dataset.splits.items()} == images
    assert tuple(note for note in dataset.notes if "not used" not in note) == notes
    contents = [json.loads(split.annotations.read_text()) for split in dataset.splits.values()]
    names = {category["id"]: category["name"] for category in contents[0]["categories"]}
    rows = [row for content in contents for row in content["annotations"]]
    counts = Counter(names[row["category_id"]] for row in rows)
    assert {key: counts[key] for key in classes} == classes
    assert sum(row["iscrowd"] for row in rows) == crowds
    assert len(rows) == sum(split.box_count for split in dataset.splits.values())
