from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tood.config.datasets import Draw, VocDataset
from tood.data.findings import Findings
from tood.data.formats.records import RawDataset, fit_box
from tood.data.formats.voc import read_voc

from .conftest import voc_xml

SPLITS = {"train": "ImageSets/Main/train.txt", "val": "ImageSets/Main/val.txt"}


def read(root: Path, **fields: object) -> tuple[RawDataset, Findings]:
    findings = Findings()
    fields = {"splits": SPLITS, **fields} if "draw" not in fields else fields
    config = VocDataset(name="mine", format="voc", root=str(root), **fields)
    return read_voc(config, root, findings), findings


def errors(findings: Findings) -> str:
    return "\n".join(findings.sentences("error"))


def write_object(root: Path, stem: str, text: str) -> None:
    (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation><object>{text}</object></annotation>")


def test_corners_become_xywh_without_a_shift_and_ids_follow_the_sorted_stems(voc_root: Path) -> None:
    dataset, findings = read(voc_root)
    assert not findings.errors
    assert dataset.classes == ["cat", "dog"]
    train, val = dataset.splits
    assert [(image.id, image.file_name) for image in train.images] == [(1, "a.jpg"), (2, "b.jpg")]
    assert [(image.id, image.width, image.height) for image in val.images] == [(3, 64, 48), (4, 64, 48)]
    assert [(box.image_id, box.category_id, box.bbox, box.area) for box in train.boxes] == [
        (1, 1, (4, 5, 16, 25), 400),
        (2, 2, (1, 1, 9, 9), 81),
    ]
    ids = [box.id for split in dataset.splits for box in split.boxes]
    assert len(ids) == len(set(ids)) == 4


def test_a_box_without_area_is_reported_and_dropped(voc_root: Path) -> None:
    _, findings = read(voc_root)
    assert findings.sentences("note") == ["b: 1 box without area dropped"]


def test_own_classes_give_the_order_and_refuse_others(voc_root: Path) -> None:
    dataset, findings = read(voc_root, classes=["dog", "cat"])
    assert dataset.classes == ["dog", "cat"]
    assert dataset.splits[0].boxes[0].category_id == 2
    assert not findings.errors
    _, findings = read(voc_root, classes=["dog", "cats"])
    assert "a.xml: class 'cat' is not among 'classes'; did you mean 'cats'?" in errors(findings)


@pytest.mark.parametrize(("choice", "expected"), [("keep", [False]), ("crowd", [True]), ("drop", [])])
def test_difficult_objects_are_kept_ignored_or_dropped(voc_root: Path, choice: str, expected: list[bool]) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    write_object(voc_root, "a", f"<name>cat</name><difficult>1</difficult>{box}")
    dataset, _ = read(voc_root, difficult=choice)
    assert [found.crowd for found in dataset.splits[0].boxes if found.image_id == 1] == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<difficult>0</difficult>", "<object> 1 has no <name>"),
        ("<name>cat</name>", "<object> 1 ('cat') has no <bndbox>/<xmin>"),
        ("<name>cat</name><bndbox><xmin>1</xmin></bndbox>", "<object> 1 ('cat') has no <bndbox>/<ymin>"),
        ("<name>cat</name><bndbox><xmin>one</xmin></bndbox>", "has 'one' for <xmin>, which is not a number"),
    ],
)
def test_missing_fields_are_named_with_their_file(voc_root: Path, text: str, sentence: str) -> None:
    write_object(voc_root, "a", text)
    _, findings = read(voc_root)
    assert f"{voc_root / 'Annotations' / 'a.xml'}: " in errors(findings)
    assert sentence in errors(findings)


@pytest.mark.parametrize(
    "text",
    [
        "<annotation><object>",
        "",
        "plain",
        '<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>',
        '<?xml version="1.0" encoding="no-such"?><annotation></annotation>',
        "<other/>",
    ],
)
def test_files_that_are_not_annotations_are_named(voc_root: Path, text: str) -> None:
    (voc_root / "Annotations" / "a.xml").write_text(text)
    _, findings = read(voc_root)
    assert len(findings.errors) == 1
    assert findings.errors[0].where.endswith("a.xml")


def test_several_problems_are_all_found(voc_root: Path) -> None:
    (voc_root / "JPEGImages" / "a.jpg").unlink()
    (voc_root / "Annotations" / "b.xml").unlink()
    (voc_root / "JPEGImages" / "c.jpg").write_bytes(b"no picture")
    _, findings = read(voc_root)
    text = errors(findings)
    assert "a.xml: the image file is missing" in text
    assert "train.txt line 1: lists 'b', but there is no" in text
    assert "c.jpg: the image file is damaged or not in a known format" in text


def test_another_annotated_picture_is_not_what_was_meant(voc_root: Path) -> None:
    xml = (voc_root / "Annotations" / "a.xml").read_text()
    picture = (voc_root / "JPEGImages" / "a.jpg").read_bytes()
    for name in ("photo_0011", "photo_0012"):
        (voc_root / "Annotations" / f"{name}.xml").write_text(xml.replace("a.jpg", f"{name}.jpg"))
    (voc_root / "ImageSets" / "Main" / "train.txt").write_text("photo_0011\nphoto_0012\n")
    (voc_root / "JPEGImages" / "photo_0012.jpg").write_bytes(picture)
    assert "did you mean" not in errors(read(voc_root)[1])
    (voc_root / "JPEGImages" / "photo_011.jpg").write_bytes(picture)
    assert "photo_0011.xml: the image file is missing" in errors(read(voc_root)[1])
    assert "did you mean 'photo_011.jpg'?" in errors(read(voc_root)[1])


def test_lists_may_have_flags_extensions_and_spaces(voc_root: Path, make_image) -> None:
    make_image(voc_root / "JPEGImages" / "photo 1.jpg")
    (voc_root / "Annotations" / "photo 1.xml").write_text((voc_root / "Annotations" / "a.xml").read_text())
    (voc_root / SPLITS["train"]).write_text("a  1\nJPEGImages/b.jpg\r\nphoto 1\n\na -1\n")
    dataset, findings = read(voc_root)
    assert not findings.errors
    assert [image.file_name for image in dataset.splits[0].images] == ["a.jpg", "b.jpg", "photo 1.jpg"]
    assert any("lists 'a' more than once" in note for note in findings.sentences("note"))


def test_folders_below_and_lists_of_windows_are_understood(voc_root: Path) -> None:
    for folder in ("JPEGImages", "Annotations"):
        (voc_root / folder / "2024").mkdir()
        for path in list((voc_root / folder).glob("[ab].*")):
            path.rename(path.parent / "2024" / path.name.upper())
    (voc_root / SPLITS["train"]).write_bytes(b"\xef\xbb\xbf2024\\A.jpg\r\nC:\\voc\\JPEGImages\\2024\\B.JPG 1\r\n")
    dataset, findings = read(voc_root)
    assert not findings.errors
    assert [image.file_name for image in dataset.splits[0].images] == ["2024/A.JPG", "2024/B.JPG"]
    assert len(dataset.splits[0].boxes) == 2
    drawn, findings = read(voc_root, draw=Draw(val=0.25))
    assert not findings.errors
    assert sum(len(split.images) for split in drawn.splits) == 4


def test_the_image_may_be_named_in_the_annotation_alone(voc_root: Path) -> None:
    (voc_root / "JPEGImages" / "a.jpg").rename(voc_root / "JPEGImages" / "other.jpg")
    text = (voc_root / "Annotations" / "a.xml").read_text()
    for name in ("other.jpg", "D:\\pictures\\other.jpg"):
        (voc_root / "Annotations" / "a.xml").write_text(text.replace("<size>", f"<filename>{name}</filename><size>"))
        dataset, findings = read(voc_root)
        assert not findings.errors
        assert dataset.splits[0].images[0].file_name == "other.jpg"


def test_lists_of_windows_notepad_are_read_as_meant(voc_root: Path) -> None:
    for name in SPLITS.values():
        (voc_root / name).write_bytes("a\nb\n".encode("utf-16"))
    _, findings = read(voc_root)
    assert [error.text for error in findings.errors] == []


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_split_without_images_is_an_error(voc_root: Path, text: str) -> None:
    (voc_root / SPLITS["val"]).write_text(text)
    _, findings = read(voc_root)
    assert "split 'val' has no images" in errors(findings)


def test_missing_folders_and_lists_name_the_field(voc_root: Path) -> None:
    _, findings = read(voc_root, images="Pictures", annotations="Labels")
    assert "Pictures: no such folder; set 'images' of data set 'mine'" in errors(findings)
    assert "Labels: no such folder; set 'annotations' of data set 'mine'" in errors(findings)
    _, findings = read(voc_root, splits={"train": "train.txt"})
    assert "train.txt: no such file; set 'splits.train' of data set 'mine'" in errors(findings)


def test_drawn_splits_leave_out_pictures_without_annotation_file(voc_root: Path, make_image) -> None:
    make_image(voc_root / "JPEGImages" / "e.jpg")
    dataset, findings = read(voc_root, draw=Draw(val=0.25, test=0.25))
    assert {split.name: len(split.images) for split in dataset.splits} == {"train": 2, "val": 1, "test": 1}
    assert f"{voc_root / 'JPEGImages' / 'e.jpg'}: has no annotation file and is left out" in findings.sentences("note")


def test_the_size_of_the_file_wins_over_the_annotated_one(voc_root: Path, make_image) -> None:
    make_image(voc_root / "JPEGImages" / "a.jpg", (32, 24))
    dataset, findings = read(voc_root)
    image = dataset.splits[0].images[0]
    assert (image.width, image.height) == (32, 24)
    assert any("annotated as 64x48 pixels, but the file has 32x24" in note for note in findings.sentences("note"))
    assert dataset.splits[0].boxes[0].bbox == (4, 5, 16, 19), "clipped to the file's height"


def test_boxes_of_an_unturned_photograph_are_turned_with_it(voc_root: Path, make_image) -> None:
    make_image(voc_root / "JPEGImages" / "a.jpg", (64, 48), exif=6)
    dataset, findings = read(voc_root)
    image, box = dataset.splits[0].images[0], dataset.splits[0].boxes[0]
    assert (image.width, image.height) == (48, 64)
    assert box.bbox == (48 - 30, 4, 25, 16)
    assert any("turned upright" in note for note in findings.sentences("note"))


@pytest.mark.parametrize(("size", "exif"), [((64, 48), 3), ((64, 64), 6)])
def test_a_turn_that_the_annotated_size_cannot_confirm_is_noted(voc_root: Path, make_image, size, exif: int) -> None:
    make_image(voc_root / "JPEGImages" / "a.jpg", size, exif=exif)
    text = (voc_root / "Annotations" / "a.xml").read_text()
    (voc_root / "Annotations" / "a.xml").write_text(text.replace(">48<", f">{size[1]}<"))
    dataset, findings = read(voc_root)
    assert dataset.splits[0].boxes[0].bbox == (4, 5, 16, 25)
    assert any("turned upright (EXIF); its boxes are taken as drawn on" in note for note in findings.sentences("note"))


coordinate = st.floats(-200, 300, allow_nan=False)


@given(coordinate, coordinate, coordinate, coordinate, st.integers(1, 200), st.integers(1, 200))
def test_a_fitted_box_lies_in_its_image_and_is_the_intersection(
    x1: float, y1: float, x2: float, y2: float, width: int, height: int
) -> None:
    fitted = fit_box(x1, y1, x2, y2, width, height)
    overlap_w, overlap_h = min(x2, width) - max(x1, 0), min(y2, height) - max(y1, 0)
    if x2 > x1 and y2 > y1 and overlap_w > 0 and overlap_h > 0:
        assert fitted.box == (max(x1, 0), max(y1, 0), min(x2, width), min(y2, height))
        far = min(x1, y1) < -1 or x2 > width + 1 or y2 > height + 1
        thin = min(overlap_w, overlap_h) < 1
        assert (fitted.problem is not None) == (far or thin)
    else:
        assert fitted.box is None
        assert fitted.problem is not None
        assert fitted.problem.endswith("dropped")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_coordinates_that_are_no_numbers_are_dropped(value: float) -> None:
    assert fit_box(value, 0, 5, 5, 10, 10).box is None


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"<object><name>cat</name>{BOX}{BOX}</object>", "<object> 1 ('cat') has 2 <bndbox>"),
        (f"<object><name>cat</name><name>dog</name>{BOX}</object>", "<object> 1 ('cat') has 2 <name>"),
        (f"<objects><object><name>cat</name>{BOX}</object></objects>", "<bndbox> in no <object>"),
        (f"<Object><name>cat</name>{BOX}</Object>", "<bndbox> in no <object>"),
        (f"<object><name>cat</name>{BOX}<difficult>2</difficult></object>", "has '2' for <difficult>"),
    ],
)
def test_no_box_is_lost_in_an_annotation_of_another_shape(voc_root: Path, text: str, sentence: str) -> None:
    document = voc_root / "Annotations" / "a.xml"
    document.write_text(f"<annotation>{text}</annotation>")
    assert f"{document}: " in errors(read(voc_root)[1])
    assert sentence in errors(read(voc_root)[1])


def test_parts_of_objects_and_flags_with_a_point_are_read(voc_root: Path) -> None:
    write_object(voc_root, "a", f"<part><name>tail</name>{BOX}</part><name>cat</name>{BOX}<difficult>1.0</difficult>")
    dataset, findings = read(voc_root)
    assert not findings.errors
    assert [box.crowd for box in dataset.splits[0].boxes if box.image_id == 1] == [True]


def test_a_declaration_of_utf16_in_a_file_of_bytes_is_not_believed(voc_root: Path) -> None:
    path = voc_root / "Annotations" / "a.xml"
    path.write_text('<?xml version="1.0" encoding="utf-16"?>' + path.read_text().replace("cat", "Kätzchen"))
    dataset, findings = read(voc_root)
    assert not findings.errors
    assert "Kätzchen" in dataset.classes


def test_lists_may_leave_out_the_folder_of_an_annotation_that_is_alone(voc_root: Path) -> None:
    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (voc_root / folder / "2026").mkdir()
        (voc_root / folder / f"a.{suffix}").rename(voc_root / folder / "2026" / f"a.{suffix}")
    dataset, findings = read(voc_root)
    assert not findings.errors
    assert "2026/a.jpg" in [image.file_name for image in dataset.splits[0].images]
    (voc_root / "ImageSets" / "Main" / "train.txt").write_text("2025/a\nb\n")
    assert "lists '2025/a'" in errors(read(voc_root)[1]), "another folder is another picture"


def test_no_picture_of_another_annotation_is_suggested(voc_root: Path) -> None:
    (voc_root / "ImageSets" / "Main" / "train.txt").write_text("a\nb\nb 7\n")
    assert "did you mean" not in errors(read(voc_root)[1])
    (voc_root / "ImageSets" / "Main" / "train.txt").write_text("a +1\nb +1\n")
    assert not read(voc_root)[1].errors


def test_swapped_corners_are_called_so(voc_root: Path) -> None:
    write_object(
        voc_root, "a", "<name>cat</name>" + BOX.replace("xmin", "?").replace("xmax", "xmin").replace("?", "xmax")
    )
    (note,) = [text for text in read(voc_root)[1].sentences("note") if "swapped" in text]
    assert note.startswith("a")


def test_splits_may_have_folders_of_their_own(tmp_path: Path, make_image: Callable[..., Path]) -> None:
    """As LabelImg and Roboflow leave them, with the same names in both."""
    root = tmp_path / "own"
    for split, name in (("train", "cat"), ("valid", "dog")):
        for stem in ("1", "2"):
            make_image(root / split / f"{stem}.jpg")
            (root / split / f"{stem}.xml").write_text(voc_xml([(name, (1, 2, 11, 22)), (name, (5, 5, 5, 9))]))
    splits = {
        name: {"images": folder, "annotations": folder} for name, folder in (("train", "train"), ("val", "valid"))
    }
    dataset, findings = read(root, splits=splits)
    assert not findings.errors
    assert dataset.classes == ["cat", "dog"]
    assert [(split.name, split.folder) for split in dataset.splits] == [
        ("train", root / "train"),
        ("val", root / "valid"),
    ]
    assert [[image.id for image in split.images] for split in dataset.splits] == [[1, 2], [3, 4]]
    assert [[(box.image_id, box.category_id) for box in split.boxes] for split in dataset.splits] == [
        [(1, 1), (2, 1)],
        [(3, 2), (4, 2)],
    ]
    assert sorted(findings.sentences("note")) == [
        f"{folder}/{stem}: 1 box without area dropped" for folder in ("train", "valid") for stem in "12"
    ]


def test_a_missing_folder_of_a_split_is_named_by_its_field(voc_root: Path) -> None:
    _, findings = read(voc_root, splits={"train": {"images": "JPEGImages", "annotations": "labels"}})
    assert f"{voc_root / 'labels'}: no such folder; set 'splits.train.annotations'" in errors(findings)
