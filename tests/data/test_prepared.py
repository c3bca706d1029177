import json
from pathlib import Path

import pytest

from tood.data.prepared import open_prepared
from tood.io.digests import file_digest
from tood.io.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    annotations = folder / "annotations" / "train.json"
    annotations.write_text("{}")
    table = folder / "annotations" / "train.npz"
    table.write_bytes(b"columns")
    split = {"annotations": "annotations/train.json", "images": "images", "image_count": 2, "box_count": 3}
    split |= {"table": "annotations/train.npz", "table_sha256": file_digest(table)}
    entry = {
        "name": "mine",
        "format": "voc",
        "classes": ["cat"],
        "fingerprint": "f",
        "splits": {"train": {**split, "sha256": file_digest(annotations)}},
    }
    (folder / "dataset.json").write_text(json.dumps(entry))
    return folder


def test_a_complete_data_set_is_opened(folder: Path) -> None:
    dataset = open_prepared(folder)
    split = dataset.split("train")
    assert (split.images, split.image_count, split.box_count) == (folder / "images", 2, 3)
    assert split.annotations == folder / "annotations" / "train.json"
    assert split.table == folder / "annotations" / "train.npz"
    assert dataset.classes == ("cat",)
    with pytest.raises(UserError, match="has no split 'val'; it has train"):
        dataset.split("val")


def test_an_absolute_images_folder_stays_absolute(folder: Path, tmp_path: Path) -> None:
    entry = json.loads((folder / "dataset.json").read_text())
    entry["splits"]["train"]["images"] = str(tmp_path)
    (folder / "dataset.json").write_text(json.dumps(entry))
    assert open_prepared(folder).split("train").images == tmp_path


def test_what_is_missing_or_changed_is_named(folder: Path) -> None:
    (folder / "annotations" / "train.npz").write_bytes(b"column")
    with pytest.raises(UserError, match=r"train.npz: differs from the file that dataset.json was written for"):
        open_prepared(folder)
    (folder / "annotations" / "train.npz").write_bytes(b"columns")
    (folder / "annotations" / "train.json").write_text("{ }")
    with pytest.raises(UserError, match=r"train.json: differs from the file that dataset.json was written for"):
        open_prepared(folder)
    (folder / "annotations" / "train.json").unlink()
    with pytest.raises(UserError, match=r"train.json: the annotations of split 'train' are missing"):
        open_prepared(folder)
    (folder / "annotations" / "train.json").write_text("{}")
    (folder / "images").rmdir()
    with pytest.raises(UserError, match="images: the images of split 'train' are missing"):
        open_prepared(folder)
    (folder / "dataset.json").unlink()
    with pytest.raises(UserError, match="prepare the data set first with 'tood data prepare mine'"):
        open_prepared(folder)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must hold a mapping of fields, but is the list []"),
        ('{"name": "mine"}', "field 'format' is missing"),
        ('{"name": 1}', "field 'name' is the number 1 but must be a text"),
        (None, "cannot be read: Is a directory"),
    ],
)
def test_a_damaged_entry_is_named(folder: Path, text: str | None, problem: str) -> None:
    (folder / "dataset.json").unlink()
    (folder / "dataset.json").mkdir() if text is None else (folder / "dataset.json").write_text(text)
    with pytest.raises(UserError) as caught:
        open_prepared(folder)
    sentence = str(caught.value)
    assert sentence.startswith(f"{folder}/dataset.json: {problem}")
    assert sentence.endswith("; remove it and prepare the data set again with 'tood data prepare mine'.")
