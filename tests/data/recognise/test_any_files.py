"""Whatever lies in a folder: a data set that is right, a fault of its own, or odd files, but never a traceback."""

import random
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tood.data.recognise.place import look_at
from tood.data.recognise.recognise import recognise
from tood.data.recognise.recognised import Choices, Recognised
from tood.data.recognise.written import dataset_yaml
from tood.io.errors import UserError

from ..random_layouts import FAULTS, Fault, make

CASES = [(layout, fault) for layout, faults in FAULTS.items() for fault in faults]


def describe(root: Path) -> Recognised | None:
    """What is recognised and can be written, or None where it is refused in sentences."""
    with suppress(UserError):
        found = recognise(look_at(root), Choices())
        dataset_yaml("mine", found)
        return found
    return None


@pytest.mark.parametrize("layout", ["coco", "voc", "yolo"])
def test_random_data_sets_are_described_as_they_are(tmp_path: Path, layout: str) -> None:
    made = make(tmp_path / "set", layout, 5)
    found = describe(made.root)
    assert found is not None
    fields = {field.name: field.value for field in found.fields}
    assert found.format == made.config.format == layout
    assert "draw" not in fields
    assert fields["splits"] == made.config.model_dump()["splits"]


@pytest.mark.parametrize(("layout", "fault"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_faults_of_the_data_are_left_to_the_check(tmp_path: Path, layout: str, fault: Fault) -> None:
    made = make(tmp_path / "set", layout, 7)
    fault(made, random.Random(7))
    describe(made.root)


NAMES = st.sampled_from(
    ["a.jpg", "a.xml", "a.txt", "a.json", "train.json", "data.yaml", "x.yaml", "classes.txt", "obj.data", "obj.names"]
) | st.sampled_from(["train.txt", "images.png", "_annotations.coco.json"])
FOLDERS = st.sampled_from(
    ["", "train/", "images/", "labels/", "train/images/", "train/labels/", "Annotations/", "val/"]
)
COCO = '{"images": [%s], "annotations": [%s], "categories": [%s]}'
ROW = st.sampled_from(
    [
        "{}",
        '{"id": 1}',
        '{"id": 0, "name": ["a"], "supercategory": {}}',
        '{"id": 1, "name": "a", "supercategory": "a"}',
        '{"id": 1, "file_name": "a.jpg"}',
        '{"id": [], "file_name": 7, "bbox": 3, "category_id": {}}',
        '{"id": 1, "file_name": "../../a.jpg", "bbox": [1, 1, 2, 2], "image_id": 1, "category_id": 1}',
    ]
)
CONTENTS = st.one_of(
    st.builds(lambda *rows: (COCO % rows).encode(), ROW, ROW, ROW),
    st.sampled_from(
        [
            b"",
            b"0 0.5 0.5 0.1 0.1\n",
            b"0 0.5 0.5 0.1 0.1 0.5 0.5\n",
            b"a.jpg\n./train/images/a.jpg\n",
            b"cat\ndog\n",
            b"<annotation><filename>a.jpg</filename></annotation>",
            b"<annotations/>",
            b"names: [cat]\ntrain: train/images\nval: 3\n",
            b"names: {0: cat, 2: [dog]}\ntrain: [images, {a: b}]\npath: [1]\nkpt_shape: 3\n",
            b"names: {a: {b: c}}\ntrain: ../..\nval: /\n",
            b"train = train.txt\nvalid = =\nnames\n",
            b"\xff\xfe\x00",
            b"{[",
        ]
    ),
    st.binary(max_size=40),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.builds(str.__add__, FOLDERS, NAMES), CONTENTS, max_size=8))
def test_odd_files_are_refused_in_sentences(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        root.mkdir()
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        describe(root)
