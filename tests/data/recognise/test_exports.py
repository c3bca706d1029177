"""Exports of the usual tools go through ``tood init`` as they are."""

from pathlib import Path

import pytest

from tood.config.datasets import CocoDataset, VocDataset, YoloDataset

from .conftest import Init, Initialised
from .exports import CLASSES, Export, numbered, roboflow_names

GROUP = {"id": 0, "name": "animals", "supercategory": "none"}
OF_GROUP = [
    GROUP,
    *({"id": number, "name": name, "supercategory": "animals"} for number, name in enumerate(CLASSES, 1)),
]


def check(found: Initialised, pictures: dict[str, int], format_: str) -> None:
    """All pictures are in their splits with both of their objects, under the right names."""
    assert found.ok
    assert found.config.format == format_
    assert found.pictures == pictures
    assert found.boxes == {name: 2 * count for name, count in pictures.items()}
    assert found.dataset.classes == list(CLASSES)
    names = {category.id: category.name for category in found.dataset.categories}
    for split in found.dataset.splits:
        assert all((names[box.category_id] == "cat") == (box.bbox[0] < 10) for box in split.boxes)
    assert "snakemake --cores all --config study=own dataset=mine seeds=1" in found.output


def roboflow_coco(export: Export, splits: dict[str, int], categories: list[dict] = OF_GROUP) -> None:
    first = 0
    for folder, count in splits.items():
        names = roboflow_names(count, first)
        first += count
        export.pictures(*(f"{folder}/{name}" for name in names))
        export.coco(f"{folder}/_annotations.coco.json", names, categories)
    export.text("README.roboflow.txt", "any")
    export.text("README.dataset.txt", "any")


def test_roboflow_coco(export: Export, init: Init) -> None:
    roboflow_coco(export, {"train": 5, "valid": 2, "test": 2})
    found = init()
    check(found, {"train": 5, "val": 2, "test": 2}, "coco")
    assert isinstance(found.config, CocoDataset)
    assert found.config.leave_out == ["animals"]
    assert "'animals' (id 0) is no class" in found.text
    assert "'animals' (id 0) is no class" in found.output


def test_roboflow_coco_whose_group_has_the_name_of_a_class(export: Export, init: Init) -> None:
    rows = [{"id": 0, "name": "cat", "supercategory": "none"}]
    rows += [{"id": number, "name": name, "supercategory": "cat"} for number, name in enumerate(CLASSES, 1)]
    roboflow_coco(export, {"train": 4, "valid": 2}, rows)
    found = init()
    check(found, {"train": 4, "val": 2}, "coco")
    assert isinstance(found.config, CocoDataset)
    assert found.config.leave_out == [0]


def test_a_class_without_objects_is_kept_and_said(export: Export, init: Init) -> None:
    rows = [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate([*CLASSES, "owl"], 1)]
    roboflow_coco(export, {"train": 4, "valid": 2}, rows)
    found = init()
    assert found.dataset.classes == [*CLASSES, "owl"]
    assert "owl; --leave-out CLASS" in found.output
    assert init(leave_out=("owl",), force=True).dataset.classes == list(CLASSES)


def test_roboflow_coco_without_splits_keeps_versions_of_a_picture_together(export: Export, init: Init) -> None:
    names = [f"photo-{number % 8}_jpg.rf.{number:032x}.jpg" for number in range(24)]
    export.pictures(*(f"train/{name}" for name in names))
    export.coco("train/_annotations.coco.json", names, OF_GROUP)
    found = init(val=0.25)
    check(found, {"train": 18, "val": 6}, "coco")
    sources = {split: {name.partition(".rf.")[0] for name in names} for split, names in found.names.items()}
    assert not sources["train"] & sources["val"]
    assert "8 groups of near-duplicate pictures (24 of 24 pictures)" in found.output


@pytest.mark.parametrize("written", ["../{}/images", "my-project-3/{}/images", "/content/my-project-3/{}/images"])
def test_roboflow_yolov8(export: Export, init: Init, written: str) -> None:
    for folder, names in (("train", roboflow_names(5)), ("valid", roboflow_names(2, 5))):
        for name in names:
            export.picture(f"{folder}/images/{name}")
            export.rows(f"{folder}/labels/{name.removesuffix('.jpg')}.txt")
    paths = {key: written.format(folder) for key, folder in (("train", "train"), ("val", "valid"), ("test", "test"))}
    lines = [f"{key}: {path}" for key, path in paths.items()]
    export.text("data.yaml", "\n".join([*lines, "nc: 2", "names: ['cat', 'dog']", "roboflow:", "  version: 3\n"]))
    export.text("README.roboflow.txt", "any")
    found = init()
    check(found, {"train": 5, "val": 2}, "yolo")
    assert isinstance(found.config, YoloDataset)
    assert found.config.splits == {"train": "train/images", "val": "valid/images"}
    assert "the split 'test' is left out" in found.output
    assert f"'train: {paths['train']}' of data.yaml leads elsewhere; train/images is there" in found.output


def test_roboflow_voc(export: Export, init: Init) -> None:
    for folder, names in (
        ("train", roboflow_names(4)),
        ("valid", roboflow_names(2, 4)),
        ("test", roboflow_names(2, 6)),
    ):
        for name in names:
            export.picture(f"{folder}/{name}")
            export.xml(f"{folder}/{name.removesuffix('.jpg')}.xml", name)
    check(init(), {"train": 4, "val": 2, "test": 2}, "voc")


@pytest.mark.parametrize("folder", ["images", "images/default"])
def test_cvat_coco(export: Export, init: Init, folder: str) -> None:
    names = numbered(10, "frame_{:06}.png")
    export.pictures(*(f"{folder}/{name}" for name in names))
    export.coco("annotations/instances_default.json", names)
    check(init(), {"train": 8, "val": 2}, "coco")


def test_cvat_coco_of_a_project_with_subsets(export: Export, init: Init) -> None:
    """With the same names in both."""
    for subset, count in (("Train", 4), ("Validation", 3)):
        names = numbered(count, "frame_{:06}.png")
        export.pictures(*(f"images/{subset}/{name}" for name in names))
        export.coco(f"annotations/instances_{subset}.json", names)
    check(init(), {"train": 4, "val": 3}, "coco")


def test_cvat_yolo_1_1(export: Export, init: Init) -> None:
    names = numbered(10, "frame_{:06}.png")
    for name in names:
        export.picture(f"obj_train_data/{name}")
        export.rows(f"obj_train_data/{name.removesuffix('.png')}.txt")
    export.text("obj.names", "cat\ndog\n")
    export.text("obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    export.text("train.txt", "".join(f"data/obj_train_data/{name}\n" for name in names))
    check(init(), {"train": 8, "val": 2}, "yolo")


def test_cvat_ultralytics(export: Export, init: Init) -> None:
    for subset, names in (("train", numbered(4)), ("val", numbered(2, first=4))):
        for name in names:
            export.picture(f"images/{subset}/{name}")
            export.rows(f"labels/{subset}/{name.removesuffix('.png')}.txt")
        export.text(f"{subset}.txt", "".join(f"images/{subset}/{name}\n" for name in names))
    export.text(
        "data.yaml", "path: ./ # dataset root dir\ntrain: train.txt\nval: val.txt\nnames:\n  0: cat\n  1: dog\n"
    )
    found = init()
    check(found, {"train": 4, "val": 2}, "yolo")
    assert isinstance(found.config, YoloDataset)
    assert found.config.splits == {"train": "train.txt", "val": "val.txt"}


def test_cvat_voc(export: Export, init: Init) -> None:
    names = numbered(10, "frame_{:06}.png")
    for name in names:
        export.picture(f"JPEGImages/{name}")
        export.xml(f"Annotations/{name.removesuffix('.png')}.xml", name)
    stems = [name.removesuffix(".png") for name in names]
    export.text("ImageSets/Main/default.txt", "".join(f"{stem}\n" for stem in stems))
    export.text("ImageSets/Main/cat_train.txt", "".join(f"{stem} 1\n" for stem in stems))
    export.text("labelmap.txt", "# label:color_rgb:parts:actions\ncat:::\ndog:::\n")
    check(init(), {"train": 8, "val": 2}, "voc")


@pytest.mark.parametrize(
    "written", ["images/{}", "images\\{}", "..\\..\\label-studio\\media\\upload\\4\\{}", "/label-studio/data/upload/{}"]
)
def test_label_studio_coco(export: Export, init: Init, written: str) -> None:
    names = numbered(10, "3b1c9a0f-shot_{}.png")
    export.pictures(*(f"images/{name}" for name in names))
    export.coco("result.json", [written.format(name) for name in names], first_id=0)
    found = init()
    check(found, {"train": 8, "val": 2}, "coco")
    assert isinstance(found.config, CocoDataset)
    assert found.config.without_folders == ("upload" in written)


def test_label_studio_yolo(export: Export, init: Init) -> None:
    for name in numbered(10, "3b1c9a0f-shot_{}.png"):
        export.picture(f"images/{name}")
        export.rows(f"labels/{name.removesuffix('.png')}.txt")
    export.text("classes.txt", "cat\ndog\n")
    export.text("notes.json", '{"categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}], "info": {}}')
    found = init()
    check(found, {"train": 8, "val": 2}, "yolo")
    assert isinstance(found.config, YoloDataset)
    assert (found.config.images, found.config.classes) == ("images", ["cat", "dog"])


def test_labelimg_voc_beside_the_pictures(export: Export, init: Init) -> None:
    for name in numbered(10):
        export.picture(name)
        export.xml(f"{Path(name).stem}.xml", name)
    check(init(), {"train": 8, "val": 2}, "voc")


def test_labelimg_voc_in_train_and_test(export: Export, init: Init) -> None:
    """With the same names in both; val is drawn out of train."""
    for folder, count in (("train", 10), ("test", 3)):
        for name in numbered(count):
            export.picture(f"{folder}/{name}")
            export.xml(f"{folder}/{Path(name).stem}.xml", name)
    found = init()
    check(found, {"train": 8, "test": 3, "val": 2}, "voc")
    assert isinstance(found.config, VocDataset)
    assert found.config.draw is not None
    assert (found.config.draw.out_of, found.config.draw.together) == ("train", "near_duplicates")
    assert "there is no val: 20% for val are drawn out of train" in found.output.lower()


@pytest.mark.parametrize("folder", ["", "shots/", "images/"])
def test_labelimg_yolo_beside_the_pictures(export: Export, init: Init, folder: str) -> None:
    for name in numbered(10):
        export.picture(f"{folder}{name}")
        export.rows(f"{folder}{Path(name).stem}.txt")
    export.text(f"{folder}classes.txt", "cat\ndog\n")
    check(init(), {"train": 8, "val": 2}, "yolo")


def test_coco_2017_beside_captions_and_keypoints(export: Export, init: Init) -> None:
    for folder, count in (("train2017", 4), ("val2017", 2)):
        names = numbered(count, "{:012}.png")
        export.pictures(*(f"{folder}/{name}" for name in names))
        for kind in ("instances", "person_keypoints"):
            export.coco(f"annotations/{kind}_{folder}.json", names)
        export.text(f"annotations/captions_{folder}.json", '{"images": [], "annotations": [{"caption": "a cat"}]}')
    found = init()
    check(found, {"train": 4, "val": 2}, "coco")
    assert "not used beside annotations/instances_train2017.json" in found.output


def test_voc_with_trainval_and_test(export: Export, init: Init) -> None:
    names = numbered(13, "{:06}.png")
    for name in names:
        export.picture(f"VOCdevkit/VOC2007/JPEGImages/{name}")
        export.xml(f"VOCdevkit/VOC2007/Annotations/{Path(name).stem}.xml", name)
    stems = [Path(name).stem for name in names]
    lists = "VOCdevkit/VOC2007/ImageSets"
    export.text(f"{lists}/Main/trainval.txt", "\n".join(stems[:10]))
    export.text(f"{lists}/Main/test.txt", "\n".join(stems[10:]))
    export.text(f"{lists}/Main/cat_trainval.txt", "\n".join(f"{stem} -1" for stem in stems[:10]))
    export.text(f"{lists}/Layout/trainval.txt", "\n".join(stems[:5]))
    export.text(f"{lists}/Segmentation/trainval.txt", "\n".join(stems[:5]))
    found = init()
    check(found, {"train": 8, "test": 3, "val": 2}, "voc")
    assert "'trainval' is divided into train and val" in found.output


def test_voc_with_all_lists(export: Export, init: Init) -> None:
    names = numbered(9, "{:06}.png")
    for name in names:
        export.picture(f"JPEGImages/{name}")
        export.xml(f"Annotations/{Path(name).stem}.xml", name)
    stems = [Path(name).stem for name in names]
    for split, own in (("train", stems[:4]), ("val", stems[4:6]), ("test", stems[6:]), ("trainval", stems[:6])):
        export.text(f"ImageSets/Main/{split}.txt", "\n".join(own))
    check(init(), {"train": 4, "val": 2, "test": 3}, "voc")


@pytest.mark.parametrize("kind", ["xml", "txt"])
def test_a_pair_of_folders(export: Export, init: Init, kind: str) -> None:
    for name in numbered(10):
        export.picture(f"pictures/sunny/{name}")
        path = f"boxes/sunny/{Path(name).stem}.{kind}"
        if kind == "xml":
            export.xml(path, name)
        else:
            export.rows(path)
    found = init(classes=() if kind == "xml" else CLASSES)
    check(found, {"train": 8, "val": 2}, "voc" if kind == "xml" else "yolo")


def test_pairs_of_folders_for_each_split(export: Export, init: Init) -> None:
    for split, count in (("train", 4), ("val", 2)):
        for name in numbered(count):
            export.picture(f"{split}/images/{name}")
            export.xml(f"{split}/annots/{Path(name).stem}.xml", name)
    check(init(), {"train": 4, "val": 2}, "voc")


def test_ultralytics_without_val_of_its_own(export: Export, init: Init) -> None:
    """As the small sample sets have it: val is train, path that of another machine."""
    for name in numbered(10):
        export.picture(f"images/train2017/{name}")
        export.rows(f"labels/train2017/{Path(name).stem}.txt")
    export.text(
        "coco8.yaml",
        "path: /usr/src/datasets/coco8\ntrain: images/train2017\nval: images/train2017\ntest:\n"
        "names: {0: cat, 1: dog}\n",
    )
    found = init()
    check(found, {"train": 8, "val": 2}, "yolo")
    assert "'val' is the same as 'train'" in found.output
    assert init("coco8.yaml", name="again").dataset.classes == list(CLASSES)


def test_ultralytics_with_lists_of_folders_and_windows_separators(export: Export, init: Init) -> None:
    for folder, count, first in (("a", 3, 0), ("b", 3, 3), ("c", 2, 6)):
        for name in numbered(count, first=first):
            export.picture(f"{folder}/images/{name}")
            export.rows(f"{folder}/labels/{Path(name).stem}.txt")
    export.text("list.txt", "".join(f".\\c\\images\\{name}\n" for name in numbered(2, first=6)))
    export.text("data.yaml", "train: ['a\\images', b/images]\nval: 'C:\\old\\list.txt'\nnc: 2\nnames: [cat, dog]\n")
    found = init()
    check(found, {"train": 6, "val": 2}, "yolo")
    assert isinstance(found.config, YoloDataset)
    assert found.config.splits == {"train": ["a/images", "b/images"], "val": "list.txt"}


def test_yolo_outlines(export: Export, init: Init) -> None:
    corners = {0: (8, 6, 24, 30), 1: (20, 10, 60, 40)}
    rows = ""
    for label, (x1, y1, x2, y2) in corners.items():
        points = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, (y1 + y2) / 2)][: 5 - label]
        rows += f"{label} " + " ".join(f"{x / 64:.6f} {y / 48:.6f}" for x, y in points) + "\n"
    for split, names in (("train", numbered(4)), ("valid", numbered(2, first=4))):
        for name in names:
            export.picture(f"{split}/images/{name}")
            export.rows(f"{split}/labels/{Path(name).stem}.txt", rows)
    export.text("data.yaml", "train: train/images\nval: valid/images\nnames: [cat, dog]\n")
    check(init(), {"train": 4, "val": 2}, "yolo")
