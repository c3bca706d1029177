from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tood.config.datasets import Draw, YoloDataset
from tood.data.findings import Findings
from tood.data.formats.records import RawDataset
from tood.data.formats.yolo import label_path, read_yolo
from tood.data.formats.yolo_rows import RowMeaning, parse_row

FOLDERS = {"train": "images/train", "val": "images/val"}


def read(root: Path, **fields: object) -> tuple[RawDataset, Findings]:
    findings = Findings()
    fields = {"splits": FOLDERS, **fields} if "draw" not in fields else fields
    return read_yolo(YoloDataset(name="mine", format="yolo", root=str(root), **fields), root, findings), findings


def errors(findings: Findings) -> str:
    return "\n".join(findings.sentences("error"))


def test_boxes_names_and_ids_are_read(yolo_root: Path) -> None:
    dataset, findings = read(yolo_root)
    assert not findings.errors
    assert [(category.id, category.name) for category in dataset.categories] == [(1, "cat"), (2, "dog")]
    train, val = dataset.splits
    assert [(image.id, image.file_name) for image in train.images] == [
        (1, "images/train/a.png"),
        (2, "images/train/b.png"),
    ]
    assert [(box.image_id, box.category_id, box.bbox) for box in train.boxes] == [
        (1, 1, (24, 12, 16, 24)),
        (2, 2, (0, 0, 32, 24)),
    ]
    assert [image.id for image in val.images] == [3, 4]


def test_polygons_become_boxes_and_missing_labels_background(yolo_root: Path) -> None:
    dataset, findings = read(yolo_root)
    (box,) = dataset.splits[1].boxes
    assert box.bbox == pytest.approx((6.4, 4.8, 12.8, 4.8))
    assert findings.sentences("note") == [
        "images/val/d.png: has no label file 'labels/val/d.txt' and counts as an image without objects",
        "images/train/b.png: 1 box without area dropped",
        "images/val/c.png: 1 box given as polygon replaced by the box around it",
    ]


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("train/images/a.b.png", "train/labels/a.b.txt"),
        ("images/x/images/a.jpg", "images/x/labels/a.txt"),
        ("pictures/a.jpg", "pictures/a.txt"),
        ("images.jpg", "images.txt"),
    ],
)
def test_labels_lie_parallel_to_images(image: str, labels: str) -> None:
    assert label_path(image) == labels


@given(
    st.integers(0, 99),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.001, 1),
    st.floats(0.001, 1),
)
def test_rows_survive_the_round_trip(label: int, cx: float, cy: float, width: float, height: float) -> None:
    row = parse_row(f"{label} {cx!r} {cy!r} {width!r} {height!r}")
    x1, y1, x2, y2 = RowMeaning("box").corners(row)
    assert row.label == label
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((cx, cy), abs=1e-12)
    assert (x2 - x1, y2 - y1) == pytest.approx((width, height), abs=1e-12)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=9))
def test_a_polygon_lies_in_its_box(points: list[tuple[float, float]]) -> None:
    row = parse_row("3 " + " ".join(f"{x!r} {y!r}" for x, y in points))
    x1, y1, x2, y2 = RowMeaning("polygon").corners(row)
    assert all(x1 <= x <= x2 and y1 <= y <= y2 for x, y in points)
    assert {x1, x2} <= {x for x, _ in points}
    assert {y1, y2} <= {y for _, y in points}


@given(st.text(max_size=40))
def test_any_text_is_a_row_or_a_value_error(text: str) -> None:
    assume(text.strip())
    try:
        row = parse_row(text)
    except ValueError:
        return
    assert row.label >= 0


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("0 0.5 0.5 0.1", "has 4 numbers"),
        ("cat 0.5 0.5 0.1 0.1", "which is not a row of numbers"),
        ("0 nan 0.5 0.1 0.1", "which is not a row of finite numbers"),
        ("0.5 0.5 0.5 0.1 0.1", "has the class index 0.5"),
        ("-1 0.5 0.5 0.1 0.1", "has the class index -1"),
        ("0 320 240 50 60", "has the value 320; coordinates must be fractions"),
        ("7 0.5 0.5 0.1 0.1", "has the class index 7; there are 2 classes, counted from 0"),
    ],
)
def test_a_wrong_row_is_named_with_its_number(yolo_root: Path, line: str, sentence: str) -> None:
    labels = yolo_root / "labels" / "train" / "a.txt"
    labels.write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    dataset, findings = read(yolo_root)
    assert f"{labels} line 2: has " in errors(findings)
    assert sentence in errors(findings)
    assert len([box for box in dataset.splits[0].boxes if box.image_id == 1]) == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "data.yaml: no such file; add it or set 'classes'"),
        ("names: [a", "data.yaml: is not valid YAML"),
        ("nc: 2", "field 'names' is missing"),
        ("names: {0: a, 2: b}", "field 'names' must have the keys 0, 1, 2"),
        ("names: {0: a, b: c}", "field 'names' must have the keys 0, 1, 2"),
        ("names: [yes, b]", "field 'names' has True at index 0, which is not a text; put it in quotes"),
        ("names: [a, null]", "field 'names' has None at index 1, which is not a text"),
        ("names: a", "field 'names' is missing or not a list"),
        ("names: [a, b]\nnc: 3", "field 'nc' is 3 but 'names' has 2 entries"),
    ],
)
def test_unusable_names_are_explained(yolo_root: Path, content: str | None, sentence: str) -> None:
    path = yolo_root / "data.yaml"
    path.unlink()
    if content is not None:
        path.write_text(content)
    _, findings = read(yolo_root)
    assert sentence in errors(findings)


def test_own_classes_replace_the_names_file(yolo_root: Path) -> None:
    (yolo_root / "data.yaml").unlink()
    dataset, findings = read(yolo_root, classes=["tom", "rex"])
    assert dataset.classes == ["tom", "rex"]
    assert not findings.errors


def test_list_files_name_images_from_the_root_or_from_themselves(yolo_root: Path) -> None:
    (yolo_root / "lists").mkdir()
    (yolo_root / "lists" / "train.txt").write_text(
        f"images/train/a.png\n../images/train/b.png\n{yolo_root / 'images/val/c.png'}\n"
    )
    dataset, findings = read(yolo_root, splits={"train": "lists/train.txt", "val": "images/val"})
    assert not findings.errors
    assert [image.file_name for image in dataset.splits[0].images] == [
        "images/train/a.png",
        "images/train/b.png",
        "images/val/c.png",
    ]


def test_lists_do_not_reach_outside(yolo_root: Path, make_image) -> None:
    make_image(yolo_root.parent / "secret.png")
    (yolo_root / "train.txt").write_text("../secret.png\nlabels/train/a.txt\n")
    _, findings = read(yolo_root, splits={"train": "train.txt"})
    assert "lists '../secret.png', which is outside" in errors(findings)
    assert "lists 'labels/train/a.txt', which is not an image file that is read" in errors(findings)
    (yolo_root / "train.txt").write_text("/elsewhere/a.png\n")
    _, findings = read(yolo_root, splits={"train": "train.txt"})
    assert [error.sentence() for error in findings.errors] == [
        f"{yolo_root / 'train.txt'} line 1: lists '/elsewhere/a.png', but there is no such image in {yolo_root}"
    ]


@pytest.mark.parametrize(
    "line", ["images\\train\\a.png", ".\\images\\train\\a.png", "images/train/a", "{real}/images/train/a.png"]
)
def test_lists_of_other_tools_are_understood(yolo_root: Path, line: str) -> None:
    link = yolo_root.parent / "link"
    link.symlink_to(yolo_root)
    (yolo_root / "train.txt").write_bytes(f"\ufeff{line.format(real=yolo_root)}\r\n".encode())
    dataset, findings = read(link, splits={"train": "train.txt", "val": "images/val"})
    assert not findings.errors
    assert [(image.file_name, image.id) for image in dataset.splits[0].images] == [("images/train/a.png", 1)]
    assert len(dataset.splits[0].boxes) == 1


def test_a_line_given_twice_is_used_once_and_noted(yolo_root: Path) -> None:
    (yolo_root / "train.txt").write_text("images/train/a.png\n./images/train/a.png\n")
    dataset, findings = read(yolo_root, splits={"train": "train.txt", "val": "images/val"})
    assert len(dataset.splits[0].images) == 1
    assert any("lists 'images/train/a.png' more than once; used once" in note for note in findings.sentences("note"))


def test_keys_of_the_names_may_be_texts(yolo_root: Path) -> None:
    (yolo_root / "data.yaml").write_text("names: {'0': cat, '1': dog}\nnc: '2'\n")
    dataset, findings = read(yolo_root)
    assert dataset.classes == ["cat", "dog"]
    assert not findings.errors


def test_a_file_whose_name_is_not_utf8_is_refused_by_name(yolo_root: Path) -> None:
    (yolo_root / "images" / "train" / "a.png").rename(yolo_root / "images" / "train" / "\udcf6.png")
    for fields in ({}, {"images": "images", "draw": Draw(val=0.5)}):
        _, findings = read(yolo_root, **fields)
        assert "\\udcf6.png: the file's name is not valid UTF-8; rename it" in errors(findings)


def test_an_image_that_is_a_link_to_nowhere_is_missing(yolo_root: Path) -> None:
    image = yolo_root / "images" / "train" / "a.png"
    image.unlink()
    image.symlink_to("nowhere.png")
    _, findings = read(yolo_root)
    assert errors(findings).startswith(f"{image}: the image file is missing, only a link to nowhere.png")


def test_a_split_without_images_is_an_error(yolo_root: Path) -> None:
    (yolo_root / "images" / "test").mkdir()
    _, findings = read(yolo_root, splits={**FOLDERS, "test": "images/test"})
    assert "split 'test' has no images" in errors(findings)
    _, findings = read(yolo_root, splits={"train": "images/trein"})
    assert "images/trein: no such folder or list file; set 'splits.train' of data set 'mine'" in errors(findings)


@pytest.mark.parametrize("place", ["../elsewhere", "/elsewhere"])
def test_a_split_outside_the_root_is_an_error(yolo_root: Path, place: str) -> None:
    _, findings = read(yolo_root, splits={**FOLDERS, "test": place})
    assert "split 'test' is outside" in errors(findings)
    (yolo_root.parent / "elsewhere").mkdir()
    _, findings = read(yolo_root, images=str(yolo_root.parent / "elsewhere"), draw=Draw(val=0.5))
    assert "elsewhere: the images are outside" in errors(findings)


def test_places_may_be_written_absolute(yolo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(yolo_root.parent)
    train = str(yolo_root / "images" / "train")
    for fields in (
        {"splits": {**FOLDERS, "train": train}},
        {"images": str(yolo_root / "images"), "draw": Draw(val=0.5)},
    ):
        dataset, findings = read(Path("yolo"), **fields)
        assert not findings.errors
        names = [image.file_name for split in dataset.splits for image in split.images]
        assert sorted(names) == ["images/train/a.png", "images/train/b.png", "images/val/c.png", "images/val/d.png"]


def test_splits_can_be_drawn(yolo_root: Path) -> None:
    dataset, findings = read(yolo_root, images="images", draw=Draw(val=0.5))
    assert not findings.errors
    assert {split.name: len(split.images) for split in dataset.splits} == {"train": 2, "val": 2}


def test_two_images_never_share_a_label_file(yolo_root: Path, make_image) -> None:
    make_image(yolo_root / "images" / "train" / "a.jpg")
    _, findings = read(yolo_root)
    assert "images/train/a: several images share this name" in errors(findings)


def test_sizes_are_those_after_exif_transposition(yolo_root: Path, make_image) -> None:
    make_image(yolo_root / "images" / "train" / "a.png", (64, 48), exif=6)
    dataset, _ = read(yolo_root)
    image, box = dataset.splits[0].images[0], dataset.splits[0].boxes[0]
    assert (image.width, image.height) == (48, 64)
    assert box.bbox == (18, 16, 12, 32)


def test_names_that_look_like_numbers_are_the_texts_that_stand_there(yolo_root: Path) -> None:
    (yolo_root / "data.yaml").write_text("names: [007, 1.10]\nnc: 2\n")
    assert read(yolo_root)[0].classes == ["007", "1.10"]


def test_own_classes_in_another_order_than_the_names_file_are_refused(yolo_root: Path) -> None:
    said = errors(read(yolo_root, classes=["dog", "cat"])[1])
    assert f"{yolo_root / 'data.yaml'}: field 'names'" in said
    (yolo_root / "data.yaml").write_text("names: {1: dog, 0: cat}\n")
    assert not read(yolo_root, classes=["cat", "dog"])[1].errors
    _, findings = read(yolo_root, classes=["Katze", "Hund"])
    assert not findings.errors
    assert any("'names' is not used" in note for note in findings.sentences("note"))


def test_a_label_file_that_is_a_broken_link_is_an_error(yolo_root: Path) -> None:
    labels = yolo_root / "labels" / "train" / "a.txt"
    labels.unlink()
    labels.symlink_to("/nowhere/a.txt")
    assert f"{labels}: " in errors(read(yolo_root)[1])


def test_a_link_never_takes_the_place_of_the_folder_it_leads_to(yolo_root: Path) -> None:
    for kind in ("images", "labels"):
        (yolo_root / kind / "train").rename(yolo_root / kind / "all")
        (yolo_root / kind / "train").mkdir()
        (yolo_root / kind / "all").rename(yolo_root / kind / "train" / "day2")
    (yolo_root / "images" / "train" / "current").symlink_to("day2")
    dataset, findings = read(yolo_root)
    assert not findings.errors
    assert [image.file_name for image in dataset.splits[0].images] == [
        "images/train/day2/a.png",
        "images/train/day2/b.png",
    ]
    assert len(dataset.splits[0].boxes) == 2


@pytest.mark.parametrize("above", ["data/", "/content/datasets/mine/", "../other/"])
def test_lists_of_another_machine_name_what_is_below_the_root(yolo_root: Path, above: str) -> None:
    (yolo_root / "list.txt").write_text(f"{above}images/train/a.png\n")
    dataset, findings = read(yolo_root, splits={"train": "list.txt", "val": "images/val"})
    assert not findings.errors
    assert [image.file_name for image in dataset.splits[0].images] == ["images/train/a.png"]
    assert any(
        note.startswith(f"{yolo_root / 'list.txt'} line 1: ") and "'images/train/a.png'" in note
        for note in findings.sentences("note")
    )


def test_a_line_that_is_too_long_for_a_name_is_named(yolo_root: Path) -> None:
    (yolo_root / "list.txt").write_text(" ".join(["images/train/a.png"] * 300))
    said = errors(read(yolo_root, splits={"train": "list.txt", "val": "images/val"})[1])
    assert f"{yolo_root / 'list.txt'} line 1: " in said
    assert len(said) < 1500


def test_a_split_may_be_several_folders_or_lists(yolo_root: Path) -> None:
    (yolo_root / "more.txt").write_text("./images/val/c.png\n")
    dataset, findings = read(yolo_root, splits={"train": ["images/train", "more.txt"], "val": "images/val"})
    assert not findings.errors
    assert [len(split.images) for split in dataset.splits] == [3, 2]
    _, findings = read(yolo_root, splits={"train": ["images/train", "images/trian"], "val": "images/val"})
    assert f"{yolo_root / 'images/trian'}: no such folder or list file" in errors(findings)


def test_label_files_may_lie_in_a_folder_of_any_name(yolo_root: Path) -> None:
    (yolo_root / "labels").rename(yolo_root / "boxes")
    (yolo_root / "images").rename(yolo_root / "pictures")
    fields = {"images": "pictures", "labels": "boxes"}
    dataset, findings = read(yolo_root, draw=Draw(val=0.25), **fields)
    assert not findings.errors
    assert sum(len(split.boxes) for split in dataset.splits) == 3
    dataset, findings = read(yolo_root, splits={"train": "pictures/train", "val": "pictures/val"}, **fields)
    assert not findings.errors
    assert [len(split.boxes) for split in dataset.splits] == [2, 1]
