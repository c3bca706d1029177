"""What is not decided for the user: two readings, nothing recognised, names that are taken."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from tood.cli.main import app
from tood.config.datasets import CocoDataset, VocDataset, YoloDataset, load_dataset
from tood.data.recognise.place import common, look_at, one_pair
from tood.data.recognise.recognise import recognise
from tood.data.recognise.recognised import Choices, Field, Recognised
from tood.data.recognise.split_choice import split_of, split_of_path
from tood.data.recognise.written import dataset_yaml
from tood.io.errors import UserError
from tood.io.plain_yaml import parse_yaml

from .conftest import Init
from .exports import CLASSES, Export, numbered


def labelled(export: Export, folder: str = "images", labels: str = "labels", count: int = 10, first: int = 0) -> None:
    for name in numbered(count, first=first):
        export.picture(f"{folder}/{name}")
        export.rows(f"{labels}/{Path(name).stem}.txt")


def refused(init: Init, *args: str, **choices: object) -> str:
    with pytest.raises(UserError) as error:
        init(*args, **choices)
    assert not Path("params/datasets/mine.yaml").exists()
    return str(error.value)


def test_several_formats_are_asked_for(export: Export, init: Init) -> None:
    labelled(export)
    export.text("classes.txt", "cat\ndog\n")
    export.coco("annotations.json", numbered(10))
    for name in numbered(10):
        export.xml(f"xml/{Path(name).stem}.xml", name)
    assert "in the formats coco and voc and yolo; say which count by --format" in refused(init)
    for format_ in ("coco", "voc", "yolo"):
        found = init(format=format_, force=True)
        assert found.config.format == format_
        assert found.boxes == {"train": 16, "val": 4}


def test_a_file_that_describes_what_is_not_here_is_passed_over(export: Export, init: Init) -> None:
    for name in numbered(10):
        export.picture(f"pictures/{name}")
        export.xml(f"pictures/{Path(name).stem}.xml", name)
    export.text("dataset/data.yaml", "names: [cat, dog]\ntrain: images/train\nval: images/val\n")
    elsewhere = {"images": [{"id": 1, "file_name": "elsewhere.jpg"}], "annotations": [], "categories": []}
    export.text("other.json", json.dumps(elsewhere))
    found = init()
    assert found.config.format == "voc"
    assert found.boxes == {"train": 16, "val": 4}
    assert "passed over: " in found.output
    assert "dataset/data.yaml: describes a YOLO data set" in found.output
    assert "other.json: lists 1 picture (such as 'elsewhere.jpg')" in found.output
    (export.root / "other.json").unlink()
    for path in (export.root / "pictures").glob("*.xml"):
        path.unlink()
    Path("params/datasets/mine.yaml").unlink()
    assert "describes a YOLO data set" in refused(init)


def test_class_names_are_asked_for(export: Export, init: Init) -> None:
    labelled(export)
    assert "labels of at least 2 classes, and no file names them" in refused(init)
    assert init(classes=("cat", "dog")).dataset.classes == list(CLASSES)


def test_differing_lists_of_class_names_are_asked_for(export: Export, init: Init) -> None:
    labelled(export)
    export.text("classes.txt", "cat\ndog\n")
    export.text("labels/classes.txt", "dog\ncat\n")
    assert "--classes" in refused(init)


def test_rows_that_can_be_two_things_are_asked_for(export: Export, init: Init) -> None:
    for name in numbered(10):
        export.picture(f"images/{name}")
        export.rows(f"labels/{Path(name).stem}.txt", "0 0.5 0.5 0.4 0.4 0.5 0.5 0.45 0.55\n")
    export.text("classes.txt", "cat\n")
    problem = refused(init)
    assert "img_0.txt: holds rows of 9 numbers" in problem
    assert "say which by --rows (polygon, pose, box_and_number)" in problem
    found = init(rows="pose")
    assert isinstance(found.config, YoloDataset)
    assert found.config.rows == "pose"
    assert found.boxes == {"train": 8, "val": 2}


def test_keypoints_that_a_description_of_another_name_tells_are_kept(export: Export, init: Init) -> None:
    for name in numbered(10):
        export.picture(f"images/{name}")
        export.rows(f"labels/{Path(name).stem}.txt", "0 0.5 0.5 0.4 0.4 0.5 0.5 0.45 0.55\n")
    export.text("pose.yaml", "train: images\nkpt_shape: [2, 2]\nnames: [cat]\n")
    found = init()
    assert isinstance(found.config, YoloDataset)
    assert (found.config.rows, found.config.classes) == ("pose", ["cat"])


def test_several_descriptions_are_asked_for(export: Export, init: Init) -> None:
    labelled(export)
    for name in ("data.yaml", "other.yaml"):
        export.text(name, "train: images\nnames: [cat, dog]\n")
    assert "(data.yaml, other.yaml); give one of them" in refused(init)
    assert init("other.yaml").pictures == {"train": 8, "val": 2}


def test_several_coco_files_are_asked_for(export: Export, init: Init) -> None:
    export.pictures(*(f"images/{name}" for name in numbered(10)))
    for name in ("alice.json", "bob.json"):
        export.coco(name, numbered(10))
    assert "(alice.json, bob.json); say which count by --annotations PATTERN" in refused(init)
    found = init(annotations="b*.json")
    assert isinstance(found.config, CocoDataset)
    assert found.config.annotations == "bob.json"
    given = init("alice.json", name="other")
    assert isinstance(given.config, CocoDataset)
    assert (given.config.annotations, given.config.images) == ("alice.json", "images")


def test_several_folders_of_the_same_pictures_are_asked_for(export: Export, init: Init) -> None:
    for folder in ("large", "small"):
        export.pictures(*(f"{folder}/{name}" for name in numbered(10)))
    export.coco("boxes.json", numbered(10))
    assert "(large, small); say which count by --images FOLDER" in refused(init)
    found = init(images=Path("small"))
    assert isinstance(found.config, CocoDataset)
    assert found.config.images == "small"


def test_pictures_may_lie_elsewhere(export: Export, init: Init, tmp_path: Path) -> None:
    Export(tmp_path / "photos").pictures(*numbered(10))
    export.coco("annotations/instances_default.json", numbered(10))
    problem = refused(init)
    assert "instances_default.json: lists 10 pictures (such as 'img_0.png'), and none of them is below" in problem
    assert "--images FOLDER" in problem
    found = init(images=tmp_path / "photos")
    assert found.pictures == {"train": 8, "val": 2}
    assert found.config.root == str(tmp_path)


@pytest.mark.parametrize(
    ("kind", "said"), [("voc", "10 XML files of pictures, and none of the pictures"), ("yolo", "")]
)
def test_exports_without_pictures_are_said(export: Export, init: Init, kind: str, said: str) -> None:
    for name in numbered(10):
        if kind == "voc":
            export.xml(f"Annotations/{Path(name).stem}.xml", name)
        else:
            export.rows(f"obj_train_data/{Path(name).stem}.txt")
    if kind == "yolo":
        export.text("obj.names", "cat\ndog\n")
        export.text("obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
        said = "describes a YOLO data set, but no picture with a label file of its name"
    assert said in refused(init)


def test_a_list_in_a_foreign_place_of_splits_without_train_is_refused(export: Export, init: Init) -> None:
    for folder in ("val", "test"):
        for name in numbered(4):
            export.picture(f"{folder}/{name}")
            export.xml(f"{folder}/{Path(name).stem}.xml", name)
    assert "has the splits test, val and none to train on" in refused(init)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "there are no files"),
        ({"a.json": '{"version": "5.0", "flags": {}, "shapes": [], "imagePath": "a.png"}'}, "a.json is LabelMe's"),
        ({"annotations.xml": "<annotations><version>1.1</version></annotations>"}, "CVAT's own XML"),
        ({"project.json": '[{"id": 1, "annotations": [{"id": 1}], "data": {}}]'}, "Label Studio's own JSON"),
        ({"train.csv": "filename,width,height,class\n"}, "train.csv is of a kind that is not read"),
    ],
)
def test_what_is_not_recognised_is_described(export: Export, init: Init, files: dict[str, str], said: str) -> None:
    export.root.mkdir()
    for path, content in files.items():
        export.picture("a.png")
        export.text(path, content)
    problem = refused(init)
    assert "no data set is recognised (looked for were" in problem
    assert said in problem
    assert not files or "there are 1 picture, " in problem or "1 picture and 1 " in problem


def test_archives_lists_and_missing_folders_are_refused(export: Export, init: Init) -> None:
    export.text("export.zip", "PK")
    export.text("train.txt", "a.png")
    assert "is an archive; unpack it" in refused(init, "export.zip")
    assert "if export.zip has the pictures, unpack it first" in refused(init)
    export.text("data.yaml", "names: [cat]\ntrain: images\nval: images\n")
    assert "if export.zip has the pictures, unpack it first" in refused(init)
    (export.root / "data.yaml").unlink()
    assert "give the folder" in refused(init, "train.txt")
    assert "no such file or folder" in refused(init, "nothing")


@pytest.mark.parametrize("name", ["my cats", "käse", ".cats", "", "../cats", "a/"])
def test_names_that_cannot_be_chosen_are_refused(export: Export, init: Init, name: str) -> None:
    export.coco("a.json", numbered(10))
    with pytest.raises(UserError, match="cannot be the name of a data set"):
        init(name=name)


def test_a_file_that_is_there_is_replaced_on_request_alone(export: Export, init: Init) -> None:
    labelled(export)
    export.text("classes.txt", "cat\ndog\n")
    first = init()
    with pytest.raises(UserError, match="is there already"):
        init(seed=1)
    assert Path("params/datasets/mine.yaml").read_text() == first.text
    assert init(seed=1, force=True).names != first.names


@pytest.mark.parametrize(
    ("choices", "said"),
    [({"val": 0.1}, "has a split 'val' of its own"), ({"test": 1.0}, "together they must leave pictures")],
)
def test_shares_that_do_not_fit_are_refused(export: Export, init: Init, choices: dict[str, float], said: str) -> None:
    labelled(export, "train/images", "train/labels")
    labelled(export, "val/images", "val/labels", 3, 10)
    export.text("data.yaml", "train: train/images\nval: val/images\nnames: [cat, dog]\n")
    assert said in refused(init, **choices)
    assert init(test=0.2).pictures == {"train": 8, "val": 3, "test": 2}


def test_a_single_film_is_an_error_until_it_is_drawn_one_by_one(export: Export, init: Init) -> None:
    coarse = np.random.default_rng(1).integers(0, 256, (9, 12, 3), np.uint8)
    film = Image.fromarray(coarse).resize((200, 100), Image.Resampling.BICUBIC)
    for number, name in enumerate(numbered(10)):
        export.picture(name)
        film.crop((number, 0, 64 + number, 48)).save(export.root / name)
        export.xml(f"{Path(name).stem}.xml", name)
    found = init()
    assert not found.ok
    assert "since near-duplicate pictures stay together" in found.output
    found = init(one_by_one=True, force=True)
    assert found.ok
    assert found.pictures == {"train": 8, "val": 2}
    assert "each by itself (--one-by-one)" in found.text


def test_errors_of_the_data_are_shown_and_the_file_stays(export: Export, init: Init) -> None:
    for name in numbered(10):
        export.picture(name)
        export.xml(f"{Path(name).stem}.xml", name)
    (export.root / "img_3.png").write_bytes(b"no picture")
    export.text("img_4.xml", "<annotation><object>")
    found = init()
    assert not found.ok
    assert isinstance(found.config, VocDataset)
    assert "img_3.png: the image file is damaged" in found.output
    assert "img_4.xml: " in found.output
    assert "Put the errors above right" in found.output


def test_the_file_says_what_was_found_and_why(export: Export, init: Init) -> None:
    for name in numbered(10):
        export.picture(name)
        export.xml(f"{Path(name).stem}.xml", name)
    text = init(test=0.1).text
    assert text.startswith("# Pascal VOC: XML files beside their pictures")
    assert f"root: {export.root}\n" in text
    assert "# The pictures are not split: 20% for val and 10% for test are drawn, near-duplicate" in text
    assert "draw: {val: 0.2, test: 0.1, seed: 0, together: near_duplicates}" in text


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_train2017", "train"),
        ("Validation", "val"),
        ("valid", "val"),
        ("trainval", "trainval"),
        ("my-testing-set", "test"),
        ("strain", None),
        ("train_test", None),
        ("contest", None),
        ("latest", None),
        ("", None),
    ],
)
def test_splits_are_told_by_whole_words(name: str, split: str | None) -> None:
    assert split_of(name) == split
    assert split_of_path(f"{name}/images/a.json" if name else "a.json") == split


def test_lists_of_single_classes_are_no_splits() -> None:
    assert split_of("cat_train") == "train"
    assert split_of("cat_train", alone=True) is None
    assert split_of("train2007", alone=True) == "train"


parts = st.lists(st.sampled_from("abc"), max_size=3).map("/".join).map(lambda path: path or ".")


@settings(max_examples=40)
@given(parts, parts, st.lists(parts, min_size=1, max_size=4, unique=True))
def test_parallel_folders_are_found_again(images: str, labels: str, inner: list[str]) -> None:
    def below(top: str, path: str) -> str:
        return str(Path(top) / path)

    found = one_pair([(below(images, path), below(labels, path)) for path in inner])
    assert found is not None
    shared = common(inner)
    assert found == (below(images, shared), below(labels, shared))


text = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(text, text.filter(lambda one: one.strip() != ""), text)
def test_any_names_survive_in_the_file(folder: str, class_name: str, why: str) -> None:
    fields = (
        Field("splits", {"train": [folder, f"{folder}/x"], "val": folder}, why),
        Field("classes", [class_name], ""),
    )
    root = Path("/data") / folder.replace("/", "_")
    found = Recognised("yolo", why, root, fields, (why,))
    read = parse_yaml(dataset_yaml("mine", found))
    assert read["root"] == str(root)
    assert read["splits"] == fields[0].value
    assert read["classes"] == [class_name]


def test_of_many_label_files_a_sample_is_read(export: Export, count_reads: Callable[[], int]) -> None:
    for name in numbered(700):
        export.text(f"images/{name}", "not opened")
        export.text(f"labels/{Path(name).stem}.txt", "0 0.5 0.5 0.1 0.1")
    export.text("classes.txt", "cat")
    recognise(look_at(export.root), Choices())
    assert 200 < count_reads() < 400


@pytest.fixture
def count_reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many texts recognition of YOLO has read."""
    from tood.data.recognise import yolo_layouts as yolo

    reads: list[Path] = []
    read = yolo.read_text
    monkeypatch.setattr(yolo, "read_text", lambda path: (reads.append(path), read(path))[1])
    return lambda: len(reads)


def test_json_files_of_other_kinds_are_not_parsed(export: Export, init: Init) -> None:
    """Thousands of LabelMe's may lie beside the pictures."""
    for name in numbered(10):
        export.picture(name)
        export.text(f"{Path(name).stem}.json", json.dumps({"shapes": [], "imagePath": name, "broken": True})[:-1])
    export.coco("all.json", numbered(10))
    assert init().pictures == {"train": 8, "val": 2}


def test_the_described_data_set_can_be_loaded_by_its_name(export: Export, init: Init) -> None:
    export.pictures(*(f"images/{name}" for name in numbered(10)))
    export.coco("a.json", numbered(10))
    init(name="own-1.cats")
    assert load_dataset("own-1.cats", Path("params")).root == str(export.root)


def test_pictures_of_predictions_do_not_count(export: Export, init: Init) -> None:
    """A training of YOLO leaves pictures and labels of the same names."""
    labelled(export)
    labelled(export, "runs/detect/predict", "runs/detect/predict/labels")
    export.text("classes.txt", "cat\ndog\n")
    found = init()
    assert found.pictures == {"train": 8, "val": 2}
    assert "pictures in runs/detect/predict are not used" in found.output
    labelled(export, "another/predict", "another/predict/labels")
    with pytest.raises(UserError, match="--images"):
        init(force=True)
    assert init(images=Path("images"), force=True).names == found.names


def test_the_command_line_passes_its_options_on(export: Export, project: Path) -> None:
    labelled(export)
    export.coco("boxes.json", numbered(10))
    options = ["--format", "yolo", "--classes", "cat, dog", "--val", "0.3", "--seed", "4", "--rows", "box"]
    done = CliRunner().invoke(app, ["init", "mine", str(export.root), *options])
    assert done.exit_code == 0, done.output
    config = load_dataset("mine", project / "params")
    assert isinstance(config, YoloDataset)
    assert (config.classes, config.rows) == (["cat", "dog"], "box")
    assert config.draw is not None
    assert (config.draw.val, config.draw.seed) == (0.3, 4)
    (export.root / "images" / "img_1.png").write_bytes(b"")
    assert (
        CliRunner().invoke(app, ["init", "mine", str(export.root), *options, "--force"]).exit_code == UserError.status
    )
