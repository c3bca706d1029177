import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tood.config.datasets import CocoDataset, CocoSplit, Draw
from tood.data.findings import Findings
from tood.data.formats.coco import read_coco
from tood.data.formats.records import RawDataset, to_coco

SPLITS = {name: CocoSplit(images=name, annotations=f"annotations/{name}.json") for name in ("train", "val")}


def read(root: Path, **fields: object) -> tuple[RawDataset, Findings]:
    findings = Findings()
    fields = {"splits": SPLITS, **fields} if "draw" not in fields else fields
    return read_coco(CocoDataset(name="mine", format="coco", root=str(root), **fields), root, findings), findings


def change(root: Path, edit: Callable[[dict[str, Any]], object], split: str = "val") -> None:
    path = root / "annotations" / f"{split}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def errors(findings: Findings) -> str:
    return "\n".join(findings.sentences("error"))


def test_ids_areas_and_crowds_are_kept_and_labels_follow_ascending_ids(coco_root: Path) -> None:
    dataset, findings = read(coco_root)
    assert not findings.all
    assert [(category.id, category.name) for category in dataset.categories] == [(2, "cat"), (5, "dog")]
    val = dataset.splits[1]
    assert [image.id for image in val.images] == [7, 3]
    assert [(box.id, box.image_id, box.category_id, box.bbox, box.area, box.crowd) for box in val.boxes] == [
        (20, 7, 5, (1.5, 2, 10, 20), 123.5, False),
        (21, 7, 2, (0, 0, 60, 40), 900.0, True),
        (30, 3, 2, (5, 5, 6, 7), 42, False),
    ]


def test_the_flag_to_ignore_an_object_is_kept(coco_root: Path) -> None:
    change(coco_root, lambda content: content["annotations"][2].update(ignore=1))
    dataset, _ = read(coco_root)
    rows = to_coco(dataset.splits[1], dataset.categories)["annotations"]
    assert [row.get("ignore", 0) for row in rows] == [0, 0, 1]


def twice(table: str) -> Callable[[dict[str, Any]], object]:
    return lambda content: content[table].append(dict(content[table][0]))


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda c: c.pop("images"), "field 'images' is missing"),
        (lambda c: c.update(annotations="none"), "field 'annotations' is missing or not a list"),
        (lambda c: c.update(categories=[]), "field 'categories' is empty"),
        (
            lambda c: c["annotations"][0].update(image_id=99),
            "(id 20) has the number 99 as 'image_id', which 'images' does not list",
        ),
        (
            lambda c: c["annotations"][0].update(category_id=9),
            "(id 20) has the number 9 as 'category_id', which 'categories' does",
        ),
        (lambda c: c["annotations"][0].pop("bbox"), "annotations[0] (id 20) needs four numbers"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "annotations[0] (id 20) needs four numbers"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, "3", 4]), "annotations[0] (id 20) needs four numbers"),
        (lambda c: c["annotations"][0].pop("id"), "annotations[0] needs a whole number as 'id'"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, 10**400]), "annotations[0] (id 20) needs four numbers"),
        (lambda c: c["annotations"][0].update(iscrowd="0"), "(id 20) has the text '0' as 'iscrowd', which must"),
        (lambda c: c["annotations"][0].update(image_id="7"), "(id 20) has the text '7' as 'image_id'"),
        (lambda c: c["images"][0].pop("file_name"), "images[0] (id 7) needs a text as 'file_name'"),
        (lambda c: c["images"][0].update(id="7"), "images[0] needs a whole number as 'id'; it has the text '7'"),
        (
            lambda c: c["images"][0].update(id=2**63),
            "images[0] needs a number below 2^63 as 'id'; it has the number 92",
        ),
        (lambda c: c["images"][0].update(file_name="\udcf6.jpg"), "a file's name that is not valid UTF-8, rename it"),
        (lambda c: c["categories"][0].pop("name"), "categories[0] (id 5) needs a text as 'name'"),
        (
            lambda c: c["images"][0].update(file_name="../a.jpg"),
            "images[0] (id 7) has the file_name '../a.jpg', which is outside",
        ),
        (
            lambda c: c["images"][0].update(file_name="/a.jpg"),
            "images[0] (id 7) has the file_name '/a.jpg', which is outside",
        ),
        (
            lambda c: c["images"][0].update(file_name="z.jpg"),
            "val.json: images[0] (id 7) has the file_name 'z.jpg', but there is no",
        ),
        (twice("images"), "image id 7 is given twice"),
        (twice("annotations"), "annotation id 20 is given twice"),
        (twice("categories"), "category id 5 is given twice"),
        (lambda c: c["categories"][1].update(name="dog"), "category name 'dog' is given twice (ids 5 and 2)"),
        (lambda c: c.update(images=[], annotations=[]), "split 'val' has no images"),
    ],
)
def test_every_kind_of_broken_file_gets_its_sentence(coco_root: Path, edit, sentence: str) -> None:
    change(coco_root, edit)
    _, findings = read(coco_root)
    assert sentence in errors(findings)
    assert str(coco_root) in findings.errors[0].where


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda c: c["categories"][0].update(name="wolf"), "category 5 is 'wolf' here and 'dog' in"),
        (
            lambda c: c["categories"].append({"id": 9, "name": "cow"}),
            "category 9 is 'cow' here and missing in",
        ),
        (
            lambda c: (c["categories"].pop(0), c["annotations"].pop(0)),
            "category 5 is missing here and 'dog' in",
        ),
    ],
)
def test_categories_that_differ_between_splits_are_refused(coco_root: Path, edit, sentence: str) -> None:
    change(coco_root, edit)
    _, findings = read(coco_root)
    assert sentence in errors(findings)
    assert len(findings.errors) == 1


def test_another_order_of_the_same_categories_is_fine(coco_root: Path) -> None:
    change(coco_root, lambda content: content["categories"].reverse())
    assert not read(coco_root)[1].all


def test_a_file_that_is_no_json_is_named(coco_root: Path) -> None:
    (coco_root / "annotations" / "val.json").write_text("{")
    _, findings = read(coco_root)
    assert "val.json: is not valid JSON" in errors(findings)


def test_boxes_without_area_or_outside_are_dropped_others_kept_as_they_are(coco_root: Path) -> None:
    boxes = [[1, 1, 0, 5], [70, 1, 5, 5], [60, 40, 10, 10], [-0.4, 0, 5, 5]]

    def edit(content: dict[str, Any]) -> None:
        content["annotations"] = [
            {"id": index, "image_id": 7, "category_id": 5, "bbox": box} for index, box in enumerate(boxes)
        ]

    change(coco_root, edit)
    dataset, findings = read(coco_root)
    assert [box.bbox for box in dataset.splits[1].boxes] == [(60, 40, 10, 10), (-0.4, 0, 5, 5)]
    notes = findings.sentences("note")
    assert "a.jpg: 1 box without area dropped" in notes
    assert "a.jpg: 1 box outside the image dropped" in notes
    assert any(note.startswith("a.jpg: 1 box reaching over the edge") for note in notes)


def test_sizes_that_disagree_with_the_file_are_reported(coco_root: Path) -> None:
    change(coco_root, lambda content: content["images"][0].update(width=640, height=480))
    dataset, findings = read(coco_root)
    assert (dataset.splits[1].images[0].width, dataset.splits[1].images[0].height) == (64, 48)
    assert any("annotated as 640x480 pixels, but the file has 64x48" in note for note in findings.sentences("note"))


def test_boxes_of_an_unturned_photograph_are_turned_with_it(coco_root: Path, make_image) -> None:
    make_image(coco_root / "val" / "a.jpg", (64, 48), exif=8)
    dataset, _ = read(coco_root)
    assert dataset.splits[1].images[0].width == 48
    assert dataset.splits[1].boxes[0].bbox == (2, 64 - 11.5, 20, 10)


def test_drawn_splits_keep_ids_and_do_not_depend_on_the_order_of_the_file(coco_root: Path, make_image) -> None:
    content = {"images": [], "annotations": [], "categories": [{"id": 4, "name": "cat"}]}
    for index in range(20):
        make_image(coco_root / "all" / f"{index}.jpg")
        content["images"].append({"id": 100 + index, "file_name": f"{index}.jpg", "width": 64, "height": 48})
        content["annotations"].append({"id": index, "image_id": 100 + index, "category_id": 4, "bbox": [1, 1, 5, 5]})
    path = coco_root / "all.json"
    members = []
    for order in (1, -1):
        path.write_text(json.dumps({**content, "images": content["images"][::order]}))
        dataset, findings = read(coco_root, images="all", annotations="all.json", draw=Draw(val=0.25, seed=3))
        assert not findings.errors
        members.append({split.name: {image.id for image in split.images} for split in dataset.splits})
        for split in dataset.splits:
            assert {box.image_id for box in split.boxes} == {image.id for image in split.images}
    assert members[0] == members[1]
    assert {name: len(ids) for name, ids in members[0].items()} == {"train": 15, "val": 5}
    assert members[0]["train"] | members[0]["val"] == set(range(100, 120))


def test_what_makes_a_whole_table_useless_is_said_once(coco_root: Path) -> None:
    change(coco_root, lambda content: content.update(categories=[]))
    _, findings = read(coco_root)
    assert len(findings.errors) == 1


def test_whole_numbers_written_with_a_point_are_ids(coco_root: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        for row in content["annotations"]:
            row.update(image_id=float(row["image_id"]), category_id=float(row["category_id"]))

    change(coco_root, edit)
    dataset, findings = read(coco_root)
    assert not findings.all
    boxes = dataset.splits[1].boxes
    assert [(box.image_id, box.category_id) for box in boxes] == [(7, 5), (7, 2), (3, 2)]
    assert all(type(box.image_id) is int for box in boxes)


@pytest.mark.parametrize("area", [0, -3, None, 10**400, "12"])
def test_an_area_that_would_keep_a_box_from_being_trained_on_is_replaced(coco_root: Path, area: object) -> None:
    change(coco_root, lambda content: content["annotations"][0].update(area=area))
    dataset, findings = read(coco_root)
    assert dataset.splits[1].boxes[0].area == 200
    assert findings.sentences("note") == ["a.jpg: 1 box with no positive 'area'; width times height is used"]


def test_boxes_too_thin_to_be_trained_on_are_kept_and_noted(coco_root: Path) -> None:
    change(coco_root, lambda content: content["annotations"][0].update(bbox=[0.25, 0.25, 0.5, 20]))
    dataset, findings = read(coco_root)
    assert dataset.splits[1].boxes[0].bbox == (0.25, 0.25, 0.5, 20)
    assert findings.sentences("note") == ["a.jpg: 1 box narrower or lower than a pixel, which is not trained on"]


def test_paths_written_on_windows_are_found(coco_root: Path) -> None:
    change(
        coco_root, lambda content: [image.update(file_name=f"val\\{image['file_name']}") for image in content["images"]]
    )
    splits = {**SPLITS, "val": CocoSplit(images=".", annotations="annotations/val.json")}
    dataset, findings = read(coco_root, splits=splits)
    assert not findings.all
    assert [image.file_name for image in dataset.splits[1].images] == ["val/a.jpg", "val/b.jpg"]


@pytest.mark.parametrize("width", ["128", 128.4, "128.0"])
def test_sizes_written_as_texts_or_fractions_are_compared(coco_root: Path, width: object) -> None:
    change(coco_root, lambda content: content["images"][0].update(width=width, height=str(96)))
    _, findings = read(coco_root)
    assert not findings.errors
    assert any("annotated as 128x96" in note for note in findings.sentences("note"))


def test_a_size_that_is_no_number_is_named(coco_root: Path) -> None:
    change(coco_root, lambda content: content["images"][0].update(width="wide"))
    assert "images[0] (id 7) has the text 'wide' as 'width'" in errors(read(coco_root)[1])


@pytest.mark.parametrize("size", [1e300, 10**30, 1e9])
def test_a_box_of_no_possible_size_is_refused(coco_root: Path, size: float) -> None:
    change(coco_root, lambda content: content["annotations"][0].update(bbox=[1, 1, size, size]))
    assert "annotations[0] (id 20)" in errors(read(coco_root)[1])


def test_names_with_the_whole_path_are_found(coco_root: Path) -> None:
    folder = coco_root / "val"

    def absolute(content: dict[str, Any]) -> None:
        content["images"][0]["file_name"] = f"{folder}/a.jpg"
        content["images"][1]["file_name"] = f"../{folder.name}/b.jpg"

    change(coco_root, absolute)
    dataset, findings = read(coco_root)
    assert not findings.errors
    assert [image.file_name for image in dataset.splits[1].images] == ["a.jpg", "b.jpg"]


def test_a_missing_picture_is_never_said_to_be_another_one(coco_root: Path) -> None:
    (coco_root / "val" / "a.jpg").unlink()
    said = errors(read(coco_root)[1])
    assert "images[0] (id 7)" in said
    assert "did you mean" not in said


def test_one_error_in_the_annotations_is_not_said_again_as_their_lack(coco_root: Path) -> None:
    change(coco_root, lambda content: [row.update(bbox=None) for row in content["annotations"]])
    assert "no objects" not in errors(read(coco_root)[1])


@pytest.mark.parametrize("left_out", [0, "animals"])
def test_a_category_that_is_left_out_is_no_class(coco_root: Path, left_out: int | str) -> None:
    for split in SPLITS:
        change(coco_root, lambda content: content["categories"].insert(0, {"id": 0, "name": "animals"}), split)
    dataset, findings = read(coco_root)
    assert dataset.classes == ["animals", "cat", "dog"]
    dataset, findings = read(coco_root, leave_out=[left_out])
    assert dataset.classes == ["cat", "dog"]
    assert [len(split.boxes) for split in dataset.splits] == [3, 3]
    assert not findings.all


def test_two_categories_of_one_name_are_told_apart_by_id(coco_root: Path) -> None:
    for split in SPLITS:
        change(coco_root, lambda content: content["categories"].insert(0, {"id": 0, "name": "cat"}), split)
    _, findings = read(coco_root)
    assert "'cat' is given twice" in errors(findings)
    dataset, findings = read(coco_root, leave_out=[0])
    assert not findings.all
    assert [(category.id, category.name) for category in dataset.categories] == [(2, "cat"), (5, "dog")]


def test_objects_of_a_class_that_is_left_out_are_dropped_and_counted(coco_root: Path) -> None:
    dataset, findings = read(coco_root, leave_out=["dog"])
    assert [len(split.boxes) for split in dataset.splits] == [2, 2]
    assert findings.sentences("note") == ["a.jpg: 2 boxes of a class in 'leave_out' dropped"]


def test_leaving_out_what_is_not_there_is_refused(coco_root: Path) -> None:
    _, findings = read(coco_root, leave_out=["dogs"])
    assert "train.json: field 'leave_out' of data set 'mine' has 'dogs'" in errors(findings)


def test_folders_of_another_machine_before_file_names_are_left_out_on_request(coco_root: Path) -> None:
    def move(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["file_name"] = "..\\..\\label-studio\\media\\upload\\4\\" + image["file_name"]

    for split in SPLITS:
        change(coco_root, move, split)
    _, findings = read(coco_root)
    assert "which is outside" in errors(findings)
    dataset, findings = read(coco_root, without_folders=True)
    assert not findings.all
    assert [image.file_name for image in dataset.splits[0].images] == ["a.jpg", "b.jpg"]
