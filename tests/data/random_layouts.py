"""Random data sets written in each layout, with the truth beside them, and faults that people's data have."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tood.config.datasets import CocoDataset, CocoSplit, VocDataset, YoloDataset
from tood.data.formats.reading import OnDisk

CLASSES = ("cat", "dog", "guinea pig")
SPLITS = ("train", "val")
Truth = dict[tuple[str, str], list[tuple[str, tuple[float, float, float, float]]]]
"""Class and corners (x1, y1, x2, y2) px of the boxes of each picture, by split and stem."""


@dataclass(frozen=True)
class Made:
    """A data set on disk: its root, how it is read, and its boxes."""

    root: Path
    config: OnDisk
    truth: Truth
    sizes: dict[tuple[str, str], tuple[int, int]]

    def picture(self, split: str, place: int = 0) -> Path:
        """A picture of a split."""
        stem = sorted(stem for one, stem in self.truth if one == split)[place]
        folder = {"coco": self.root / split, "voc": self.root / "JPEGImages", "yolo": self.root / "images" / split}
        return folder[self.config.format] / f"{stem}.png"

    def label(self, split: str, place: int = 0) -> Path:
        """The file that has the boxes of a picture."""
        stem = self.picture(split, place).stem
        return {
            "coco": self.root / f"{split}.json",
            "voc": self.root / "Annotations" / f"{stem}.xml",
            "yolo": self.root / "labels" / split / f"{stem}.txt",
        }[self.config.format]


def make(root: Path, layout: str, seed: int) -> Made:
    """A random data set of 5 pictures a split with 1 to 4 boxes each; every class is in every split."""
    rng = np.random.default_rng(seed)
    truth: Truth = {}
    sizes = {}
    for split in SPLITS:
        for number in range(5):
            key = (split, f"{split}_{seed % 97}_{number}")
            width, height = (int(side) for side in rng.integers(40, 90, 2))
            sizes[key] = (width, height)
            low = rng.uniform(0, 0.7, (int(rng.integers(1, 5)), 2)) * (width, height)
            wide = rng.uniform(0.06, 0.29, low.shape) * (width, height)
            labels = [int(rng.integers(len(CLASSES))) for _ in low]
            labels[0] = number % len(CLASSES)
            corners = np.hstack([low, low + wide]).tolist()
            truth[key] = [(CLASSES[label], tuple(box)) for label, box in zip(labels, corners, strict=True)]
    writer, config = {"coco": (_coco, coco), "voc": (_voc, voc), "yolo": (_yolo, yolo)}[layout]
    writer(root, truth, sizes)
    made = Made(root, config(root), truth, sizes)
    for (split, stem), size in sizes.items():
        path = made.picture(split).with_name(f"{stem}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    return made


def coco(root: Path) -> CocoDataset:
    splits = {split: CocoSplit(images=split, annotations=f"{split}.json") for split in SPLITS}
    return CocoDataset(name="mine", format="coco", root=str(root), splits=splits)


def voc(root: Path) -> VocDataset:
    return VocDataset(name="mine", format="voc", root=str(root), splits={split: f"{split}.txt" for split in SPLITS})


def yolo(root: Path) -> YoloDataset:
    return YoloDataset(name="mine", format="yolo", root=str(root), splits={s: f"images/{s}" for s in SPLITS})


def _coco(root: Path, truth: Truth, sizes: dict) -> None:
    for split in SPLITS:
        images, annotations = [], []
        for number, ((one, stem), boxes) in enumerate(truth.items(), start=1):
            if one != split:
                continue
            width, height = sizes[one, stem]
            images.append({"id": number, "file_name": f"{stem}.png", "width": width, "height": height})
            for name, (x1, y1, x2, y2) in boxes:
                entry = {"image_id": number, "category_id": CLASSES.index(name) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                annotations.append({"id": len(annotations) + 1, **entry})
        categories = [{"id": index, "name": name} for index, name in enumerate(CLASSES, start=1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        root.mkdir(parents=True, exist_ok=True)
        (root / f"{split}.json").write_text(json.dumps(content))


def _voc(root: Path, truth: Truth, sizes: dict) -> None:
    (root / "Annotations").mkdir(parents=True)
    for (_, stem), boxes in truth.items():
        width, height = sizes[next(key for key in sizes if key[1] == stem)]
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{x1!r}</xmin><ymin>{y1!r}</ymin><xmax>{x2!r}</xmax>"
            f"<ymax>{y2!r}</ymax></bndbox></object>\n"
            for name, (x1, y1, x2, y2) in boxes
        )
        size = f"<size><width>{width}</width><height>{height}</height></size>"
        text = f"<annotation>\n<filename>{stem}.png</filename>\n{size}\n{objects}</annotation>\n"
        (root / "Annotations" / f"{stem}.xml").write_text(text)
    for split in SPLITS:
        (root / f"{split}.txt").write_text("".join(f"{stem}\n" for one, stem in truth if one == split))


def _yolo(root: Path, truth: Truth, sizes: dict) -> None:
    for (split, stem), boxes in truth.items():
        width, height = sizes[split, stem]
        path = root / "labels" / split / f"{stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            f"{CLASSES.index(name)} {(x1 + x2) / 2 / width!r} {(y1 + y2) / 2 / height!r} "
            f"{(x2 - x1) / width!r} {(y2 - y1) / height!r}\n"
            for name, (x1, y1, x2, y2) in boxes
        ]
        path.write_text("".join(rows))
    (root / "data.yaml").write_text(json.dumps({"names": list(CLASSES)}))


Fault = Callable[[Made, random.Random], list[str]]
"""Changes a data set and returns what the output must name."""


def _edit(made: Made, split: str, change: Callable[[dict], None]) -> None:
    path = made.root / f"{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cut_picture(made: Made, rng: random.Random) -> list[str]:
    path = made.picture(rng.choice(SPLITS), rng.randrange(5))
    path.write_bytes(path.read_bytes()[: -rng.randrange(30, 400)])
    return [path.name]  # in a note where enough is left, else in an error


def empty_picture(made: Made, rng: random.Random) -> list[str]:
    path = made.picture(rng.choice(SPLITS), rng.randrange(5))
    path.write_bytes(b"")
    return [str(path)]


def no_picture(made: Made, rng: random.Random) -> list[str]:
    path = made.picture(rng.choice(SPLITS), rng.randrange(5))
    path.unlink()
    return [path.stem]


def picture_twice(made: Made, rng: random.Random) -> list[str]:
    first, second = made.picture("train", rng.randrange(5)), made.picture("val", rng.randrange(5))
    shutil.copyfile(first, second)
    return [str(first), str(second)]


def spare_picture(made: Made, rng: random.Random) -> list[str]:
    path = made.picture("train").with_name(f"spare{rng.randrange(99)}.jp2")
    Image.linear_gradient("L").save(path)
    return [path.name]


def raw_picture(made: Made, rng: random.Random) -> list[str]:
    path = made.picture("val", rng.randrange(5))
    path.rename(path.with_suffix(".dng"))
    return [f"{path.stem}.dng"] if made.config.format == "yolo" else [path.stem]


def pages(made: Made, rng: random.Random) -> list[str]:
    path = made.picture("val", rng.randrange(5))
    with Image.open(path) as picture:
        other = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        picture.save(path, format="TIFF", save_all=True, append_images=[other])
    return [path.name, "pages"]


def odd_file(made: Made, rng: random.Random) -> list[str]:
    path = made.label("train").with_name(f"readme{rng.randrange(99)}.docx")
    path.write_bytes(b"x")
    return [path.name]


def classes_alike(made: Made, rng: random.Random) -> list[str]:
    name = rng.choice(["Cat", "cat ", "CAT", "c\u200bat"])
    if made.config.format == "coco":
        for split in SPLITS:
            _edit(made, split, lambda content: content["categories"][1].update(name=name))
    elif made.config.format == "yolo":
        (made.root / "data.yaml").write_text(json.dumps({"names": ["cat", name, "guinea pig"]}))
    else:
        name = "Cat"
        path = made.label("train", 1)
        path.write_text(path.read_text().replace("<name>dog</name>", f"<name>{name}</name>"))
    return ["rename", "cat"]


def wrong_encoding(made: Made, rng: random.Random) -> list[str]:
    path = made.label("train", rng.randrange(5))
    path.write_bytes(
        path.read_bytes() + (b"\n<!-- gr\xf6\xdfe -->" if made.config.format == "voc" else b"\ngr\xf6\xdfe\n")
    )
    return [str(path)]


def label_cut(made: Made, rng: random.Random) -> list[str]:
    path = made.label("val", rng.randrange(5))
    content = path.read_bytes().rstrip()
    path.write_bytes(content[: content.rindex(b" ")] if made.config.format == "yolo" else content[:-5])
    return [str(path)]


def coco_text_id(made: Made, rng: random.Random) -> list[str]:
    place = rng.randrange(3)
    _edit(made, "val", lambda content: content["annotations"][place].update(image_id="7"))
    return [str(made.root / "val.json"), f"annotations[{place}]", "'7'"]


def coco_unknown_category(made: Made, rng: random.Random) -> list[str]:
    place = rng.randrange(3)
    _edit(made, "train", lambda content: content["annotations"][place].update(category_id=9))
    return [str(made.root / "train.json"), f"annotations[{place}]", "category_id"]


def coco_corners(made: Made, rng: random.Random) -> list[str]:
    def change(content: dict) -> None:
        for entry in content["annotations"]:
            x, y, width, height = entry["bbox"]
            entry["bbox"] = [x, y, x + width, y + height]

    _edit(made, "train", change)
    return [str(made.root / "train.json"), "bbox"]


def voc_copy(made: Made, rng: random.Random) -> list[str]:
    path = made.label("train", rng.randrange(5))
    copy = path.with_name(f"{path.stem} (copy).xml")
    shutil.copyfile(path, copy)
    with (made.root / "val.txt").open("a") as handle:
        handle.write(f"{copy.stem}\n")
    return [f"{path.stem}.png", "more than one split"]


def voc_unlisted(made: Made, rng: random.Random) -> list[str]:
    path = made.root / "val.txt"
    stems = path.read_text().splitlines()
    left_out = stems.pop(rng.randrange(5))
    path.write_text("\n".join(stems))
    return [f"{left_out}.png", f"{left_out}.xml"]


def voc_no_corner(made: Made, rng: random.Random) -> list[str]:
    path = made.label("val", rng.randrange(5))
    path.write_text(path.read_text().replace("xmax", "xmx", 2))
    return [str(path), "xmax", "<object> 1"]


def yolo_no_label(made: Made, rng: random.Random) -> list[str]:
    path = made.label("train", rng.randrange(5))
    path.unlink()
    return [path.stem, "no label file"]


def yolo_other_label(made: Made, rng: random.Random) -> list[str]:
    path = made.label("train").with_name(f"gone{rng.randrange(99)}.txt")
    path.write_text("0 0.5 0.5 0.1 0.1\n")
    return [path.name]


def yolo_bad_row(made: Made, rng: random.Random) -> list[str]:
    path = made.label("val", rng.randrange(5))
    row = rng.choice(
        ["7 0.5 0.5 0.1 0.1", "0 0.5 0.5", "cat 0.5 0.5 0.1 0.1", "0 55 30 20 20", "0 0.5 0.5 0.1 0.1 0.9"]
    )
    text = path.read_text()
    path.write_text(f"\n{row}\n{text}")
    return [str(path)]


EVERYWHERE: list[Fault] = [
    cut_picture, empty_picture, no_picture, picture_twice, spare_picture, raw_picture, pages, odd_file, classes_alike,
    wrong_encoding, label_cut,
]  # fmt: skip
FAULTS: dict[str, list[Fault]] = {
    "coco": [*EVERYWHERE, coco_text_id, coco_unknown_category, coco_corners],
    "voc": [*EVERYWHERE, voc_copy, voc_unlisted, voc_no_corner],
    "yolo": [*EVERYWHERE, yolo_no_label, yolo_other_label, yolo_bad_row],
}
