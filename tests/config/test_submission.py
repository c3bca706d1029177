"""Studies that write files for an evaluation server."""

import shutil
from pathlib import Path

import pytest
import yaml

from tood.config.datasets import load_dataset
from tood.config.study import load_study
from tood.io.errors import UserError

PARAMS = Path(__file__).parents[2] / "params"


def test_the_table_of_large_backbones_is_submitted_in_its_full_form_only() -> None:
    submission = load_study("paper/table5", PARAMS).submission
    assert submission is not None
    assert submission.name == "coco2017_testdev"
    assert list(submission.splits) == ["test-dev2017"]
    assert load_study("paper/table5@demo", PARAMS).submission is None
    assert load_study("demo", PARAMS).submission is None


def test_test_dev_is_verified_like_the_rest_of_coco() -> None:
    source = load_dataset("coco2017_testdev", PARAMS).source
    assert source is not None
    assert all(archive.sha256 and archive.size and archive.checksum_source for archive in source.archives)
    assert source.counts == {"test2017": 40_670, "annotations/image_info_test-dev2017.json": 20_288}


def test_only_images_without_annotations_are_submitted(tmp_path: Path) -> None:
    params = Path(shutil.copytree(PARAMS, tmp_path / "params"))
    path = params / "studies/demo.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "submission": "bccd"}))
    with pytest.raises(UserError, match="field 'submission' is 'bccd', which is no data set of format 'images'"):
        load_study("demo", params)


def test_a_study_cannot_train_on_images_alone(tmp_path: Path) -> None:
    params = Path(shutil.copytree(PARAMS, tmp_path / "params"))
    path = params / "studies/demo.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "dataset": "coco2017_testdev"}))
    with pytest.raises(UserError, match="has no 'train'"):
        load_study("demo", params)
