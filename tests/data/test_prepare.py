import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock

from tood.config.datasets import (
    CocoDataset,
    CocoSplit,
    DatasetConfig,
    Draw,
    ShapesDataset,
    ShapesSplit,
    VocDataset,
    YoloDataset,
)
from tood.config.upstream import Archive, Source
from tood.data import prepare as module
from tood.data.prepare import prepare_dataset
from tood.data.prepared import PreparedDataset, open_prepared
from tood.io import lock as locks
from tood.io.digests import file_digest
from tood.io.errors import UserError

PARAMS = Path(__file__).parents[2] / "params"
LISTS = {"train": "ImageSets/Main/train.txt", "val": "ImageSets/Main/val.txt"}


def prepare(config: DatasetConfig, folder: Path, mirror: Path | None = None, params: Path = PARAMS) -> PreparedDataset:
    return prepare_dataset(config, folder, mirror=mirror, params_root=params)


def own_voc(root: Path, **fields: object) -> VocDataset:
    return VocDataset(name="mine", format="voc", root=str(root), splits=LISTS, **fields)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def upstream_voc(tmp_path: Path, voc_root: Path, write_manifest: Callable[..., None]) -> tuple[VocDataset, Path]:
    """A data set with an upstream that does not answer, its manifest in a params folder."""
    params = tmp_path / "params"
    (params / "datasets").mkdir(parents=True)
    write_manifest(params / "datasets" / "mine.manifest.csv", voc_root, tree(voc_root))
    source = Source(
        archives=[Archive(url="http://127.0.0.1:9/mine.zip")],
        manifest="mine.manifest.csv",
        origin="somewhere",
        license="MIT",
    )
    return VocDataset(name="mine", format="voc", source=source, splits=LISTS), params


def test_own_voc_files_stay_in_place_and_become_coco(tmp_path: Path, voc_root: Path) -> None:
    before = tree(voc_root)
    dataset = prepare(own_voc(voc_root), tmp_path / "data" / "mine")
    assert tree(voc_root) == before
    assert dataset.classes == ("cat", "dog")
    assert dataset.notes == ("b: 1 box without area dropped",)
    train = dataset.split("train")
    assert train.images == voc_root / "JPEGImages"
    assert (train.image_count, train.box_count) == (2, 2)
    content = json.loads(train.annotations.read_text())
    assert content["images"] == [
        {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48},
        {"id": 2, "file_name": "b.jpg", "width": 64, "height": 48},
    ]
    assert content["annotations"][0] == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [4.0, 5.0, 16.0, 25.0],
        "area": 400.0,
        "iscrowd": 0,
    }
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert sorted(path.name for path in (tmp_path / "data" / "mine").iterdir()) == [
        "annotations",
        "dataset.json",
        "files.json",
    ]


def test_own_yolo_and_coco_files_are_prepared_too(tmp_path: Path, yolo_root: Path, coco_root: Path) -> None:
    yolo = YoloDataset(
        name="y", format="yolo", root=str(yolo_root), splits={"train": "images/train", "val": "images/val"}
    )
    dataset = prepare(yolo, tmp_path / "y")
    assert {name: (split.image_count, split.box_count) for name, split in dataset.splits.items()} == {
        "train": (2, 2),
        "val": (2, 1),
    }
    splits = {name: CocoSplit(images=name, annotations=f"annotations/{name}.json") for name in ("train", "val")}
    dataset = prepare(CocoDataset(name="c", format="coco", root=str(coco_root), splits=splits), tmp_path / "c")
    content = json.loads(dataset.split("val").annotations.read_text())
    assert [(row["id"], row["area"], row["iscrowd"]) for row in content["annotations"]] == [
        (20, 123.5, 0),
        (21, 900.0, 1),
        (30, 42, 0),
    ]
    assert [category["id"] for category in content["categories"]] == [2, 5]


def test_a_second_time_changes_nothing(tmp_path: Path, voc_root: Path) -> None:
    folder = tmp_path / "mine"
    prepare(own_voc(voc_root), folder)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    prepare(own_voc(voc_root), folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times


def test_changed_annotations_or_splits_are_taken_over(tmp_path: Path, voc_root: Path) -> None:
    folder = tmp_path / "mine"
    first = prepare(own_voc(voc_root), folder)
    (voc_root / LISTS["val"]).write_text("c\n")
    second = prepare(own_voc(voc_root), folder)
    assert second.split("val").image_count == 1
    assert second.fingerprint != first.fingerprint
    more = VocDataset(
        name="mine", format="voc", root=str(voc_root), splits={**LISTS, "test": LISTS["val"]}, duplicates="keep"
    )
    assert list(prepare(more, folder).splits) == ["train", "val", "test"]
    third = prepare(own_voc(voc_root), folder)
    assert list(third.splits) == ["train", "val"]
    assert sorted(path.name for path in (folder / "annotations").glob("*.json")) == ["train.json", "val.json"]


def test_the_fingerprint_is_of_the_content_not_of_the_place(tmp_path: Path, voc_root: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(voc_root, moved)
    first = prepare(own_voc(voc_root), tmp_path / "one")
    second = prepare(own_voc(moved), tmp_path / "two")
    assert first.fingerprint == second.fingerprint
    crowd = prepare(own_voc(moved, difficult="drop"), tmp_path / "three")
    assert crowd.fingerprint != first.fingerprint


def test_a_data_set_with_an_error_is_refused_and_nothing_written(tmp_path: Path, voc_root: Path) -> None:
    folder = tmp_path / "mine"
    (voc_root / "JPEGImages" / "a.jpg").unlink()
    (voc_root / "Annotations" / "c.xml").unlink()
    with pytest.raises(UserError) as error:
        prepare(own_voc(voc_root), folder)
    assert "lists 'c', but there is no" in str(error.value)
    assert "(1 further problem; 'tood data check mine' lists all)." in str(error.value)
    assert not list(tmp_path.rglob("*.json"))


def test_an_error_leaves_the_earlier_data_set_valid(tmp_path: Path, voc_root: Path) -> None:
    folder = tmp_path / "mine"
    first = prepare(own_voc(voc_root), folder)
    (voc_root / "Annotations" / "a.xml").write_text("<annotation>")
    with pytest.raises(UserError, match=r"a.xml: is not a readable XML file"):
        prepare(own_voc(voc_root), folder)
    assert open_prepared(folder).fingerprint == first.fingerprint


def test_training_images_without_any_object_are_a_mistake(tmp_path: Path, yolo_root: Path) -> None:
    shutil.rmtree(yolo_root / "labels" / "train")
    config = YoloDataset(
        name="y", format="yolo", root=str(yolo_root), splits={"train": "images/train", "val": "images/val"}
    )
    with pytest.raises(UserError, match="split 'train' has no objects at all; see that its annotations are"):
        prepare(config, tmp_path / "y")


def test_own_files_are_never_overwritten(tmp_path: Path, coco_root: Path) -> None:
    splits = {"train": CocoSplit(images="train", annotations="annotations/train.json")}
    config = CocoDataset(name="coco", format="coco", root=str(coco_root), splits=splits)
    before = tree(coco_root)
    with pytest.raises(UserError, match="prepared files are written there; move the data set's own files elsewhere"):
        prepare(config, coco_root)
    assert tree(coco_root) == before


def test_own_files_are_not_overwritten_below_a_wider_root_either(tmp_path: Path, coco_root: Path) -> None:
    places = {
        name: CocoSplit(images=f"coco/{name}", annotations=f"coco/annotations/{name}.json") for name in ("train", "val")
    }
    config = CocoDataset(name="coco", format="coco", root=str(coco_root.parent), splits=places)
    before = tree(coco_root)
    with pytest.raises(UserError, match=r"annotations/train.json: prepared files are written there"):
        prepare(config, coco_root)
    assert tree(coco_root) == before


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"splits": {"train": LISTS["train"]}}, "has no split 'val', which training .*; add 'val' to 'splits'"),
        ({"splits": {**LISTS, "../x": LISTS["val"]}}, r"split '../x' must be named with letters"),
        ({"draw": Draw(val=0.0)}, "has no split 'val', which training .*; raise 'draw.val' above 0"),
        ({"splits": LISTS, "difficult": "crowd"}, "split 'train' has nothing to train on: its 2 boxes"),
        ({"splits": LISTS, "root": "~no-such-user/x"}, "no such folder; correct 'root' of data set 'mine'"),
    ],
)
def test_what_no_training_could_use_is_refused(tmp_path: Path, voc_root: Path, fields, sentence: str) -> None:
    if "difficult" in fields:
        for path in (voc_root / "Annotations").iterdir():
            path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    with pytest.raises(UserError, match=sentence):
        prepare(VocDataset(**{"name": "mine", "format": "voc", "root": str(voc_root), **fields}), tmp_path / "mine")
    assert not list(tmp_path.rglob("*.json"))


def test_two_classes_of_one_name_are_refused(tmp_path: Path, yolo_root: Path) -> None:
    (yolo_root / "data.yaml").write_text("names: [cat, dog, cat]")
    places = {"train": "images/train", "val": "images/val"}
    with pytest.raises(UserError, match="class 'cat' is listed twice; give every class one name"):
        prepare(YoloDataset(name="y", format="yolo", root=str(yolo_root), splits=places), tmp_path / "y")


@pytest.mark.parametrize("writer", ["tood.data.prepare.write_coco", "tood.data.split_table.SplitTable.write_flat"])
def test_a_full_disk_leaves_no_part_behind(
    tmp_path: Path, voc_root: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    def fail(path: Path, *_: object, **__: object) -> None:
        raise UserError(f"{path}: cannot be written: No space left on device.")

    monkeypatch.setattr(writer, fail)
    with pytest.raises(UserError, match="No space left"):
        prepare(own_voc(voc_root), tmp_path / "mine")
    assert not (tmp_path / "mine" / ".work").exists()


def test_a_place_that_takes_no_lock_is_named_at_once(
    tmp_path: Path, voc_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(UserError, match="mine: cannot be written: Permission denied"):
        prepare(own_voc(voc_root), tmp_path / "mine")


def test_files_that_may_not_be_read_are_named(tmp_path: Path, coco_root: Path) -> None:
    path = coco_root / "annotations" / "train.json"
    path.unlink()
    path.mkdir()
    splits = {name: CocoSplit(images=name, annotations=f"annotations/{name}.json") for name in ("train", "val")}
    config = CocoDataset(name="c", format="coco", root=str(coco_root), splits=splits)
    with pytest.raises(UserError, match=r"annotations/train.json: .*Is a directory"):
        prepare(config, tmp_path / "c")


def test_a_relative_root_is_below_the_project(tmp_path: Path, voc_root: Path) -> None:
    (tmp_path / "params").mkdir()
    config = VocDataset(name="mine", format="voc", root=voc_root.name, splits=LISTS)
    dataset = prepare(config, tmp_path / "data" / "mine", params=tmp_path / "params")
    assert dataset.split("train").images == voc_root / "JPEGImages"
    wrong = VocDataset(name="mine", format="voc", root="nowhere", splits=LISTS)
    with pytest.raises(UserError, match=r"nowhere: no such folder; correct 'root' of data set 'mine'"):
        prepare(wrong, tmp_path / "data" / "mine", params=tmp_path / "params")


def test_a_mirror_is_copied_verified_and_then_not_needed_again(
    tmp_path: Path, voc_root: Path, upstream_voc, said: list[str]
) -> None:
    config, params = upstream_voc
    folder = tmp_path / "data" / "mine"
    dataset = prepare(config, folder, voc_root, params)
    assert any("10 files verified against mine.manifest.csv" in line for line in said)
    assert dataset.split("val").images == folder / "raw" / "JPEGImages"
    assert json.loads((folder / "dataset.json").read_text())["splits"]["val"]["images"] == "raw/JPEGImages"
    assert (dataset.origin, dataset.license) == ("somewhere", "MIT")
    assert not (folder / ".work").exists()
    said.clear()
    again = prepare(config, folder, None, params)
    assert again == dataset
    assert said == [f"mine: already prepared in {folder}"]
    (folder / "dataset.json").unlink()
    again = prepare(config, folder, None, params)
    assert again == dataset, "obtained files are used again"


def test_archives_are_downloaded_unpacked_and_counted(tmp_path: Path, coco_root: Path, said: list[str]) -> None:
    www = tmp_path / "www"
    www.mkdir()
    for folder in ("train", "val", "annotations"):
        shutil.make_archive(str(www / folder), "zip", coco_root, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=www))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    archives = [
        Archive(
            url=f"http://127.0.0.1:{server.server_port}/{file.name}",
            size=file.stat().st_size,
            sha256=file_digest(file),
        )
        for file in sorted(www.iterdir())
    ]
    counts = {"train": 2, "val": 2, "annotations/train.json": 3, "annotations/val.json": 3}
    splits = {name: CocoSplit(images=name, annotations=f"annotations/{name}.json") for name in ("train", "val")}
    config = CocoDataset(name="c", format="coco", source=Source(archives=archives, counts=counts), splits=splits)
    folder = tmp_path / "data" / "c"
    dataset = prepare(config, folder)
    assert dataset.split("val").images == folder / "raw" / "val"
    assert "counts verified: train 2, val 2, annotations/train.json 3, annotations/val.json 3" in said
    server.shutdown()
    server.server_close()
    (folder / "dataset.json").unlink()
    again = prepare(config, folder)
    assert again == dataset, "what was unpacked is used again"
    shutil.rmtree(folder)
    mirrored = prepare(config, folder, mirror=www)
    assert mirrored == dataset
    off = config.source.model_copy(update={"counts": {**counts, "annotations/val.json": 4}})
    with pytest.raises(UserError, match=r"val.json: has 3 annotations instead of 4"):
        prepare(config.model_copy(update={"source": off}), tmp_path / "off", mirror=coco_root)


def test_a_missing_image_or_changed_annotations_make_it_prepare_again(
    tmp_path: Path, voc_root: Path, upstream_voc, said: list[str]
) -> None:
    config, params = upstream_voc
    folder = tmp_path / "data" / "mine"
    dataset = prepare(config, folder, voc_root, params)
    for damage in ("raw/JPEGImages/a.jpg", "annotations/val.json"):
        (folder / damage).unlink()
        said.clear()
        again = prepare(config, folder, voc_root, params)
        assert again == dataset
        assert (folder / damage).is_file()
        assert any("preparing it again" in line and damage.rpartition("/")[2] in line for line in said)


def test_a_mirror_that_differs_leaves_nothing_behind(tmp_path: Path, voc_root: Path, upstream_voc) -> None:
    config, params = upstream_voc
    (voc_root / "JPEGImages" / "a.jpg").write_bytes(b"another")
    folder = tmp_path / "data" / "mine"
    with pytest.raises(UserError, match=r"a.jpg: has 7 bytes instead of .* than mine.manifest.csv says"):
        prepare(config, folder, voc_root, params)
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_being_killed_while_converting_is_repaired_by_the_next_run(
    tmp_path: Path, voc_root: Path, upstream_voc, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, params = upstream_voc
    folder = tmp_path / "data" / "mine"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_entry", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(config, folder, voc_root, params)
    assert not (folder / "dataset.json").exists()
    with pytest.raises(UserError, match="prepare the data set first"):
        open_prepared(folder)
    dataset = prepare(config, folder, None, params)
    assert dataset.split("train").image_count == 2


def test_two_processes_wait_for_each_other(
    tmp_path: Path, voc_root: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setattr(locks, "_SILENCE", 0.05)
    code = (
        "import sys, time; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('locked', flush=True); time.sleep(0.6)"
    )
    lock = tmp_path / ".mine.lock"
    other = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    began = time.monotonic()
    prepare(own_voc(voc_root), tmp_path / "mine")
    assert other.wait() == 0
    assert time.monotonic() - began > 0.2
    assert "mine: another process is preparing it; waiting" in said
    assert FileLock(lock).acquire(timeout=1), "the lock is given back"


def test_the_generated_set_has_the_same_layout_and_is_made_once(tmp_path: Path, said: list[str]) -> None:
    splits = {"train": ShapesSplit(images=3, seed=1), "val": ShapesSplit(images=2, seed=2)}
    config = ShapesDataset(name="shapes", format="shapes", size=64, splits=splits)
    dataset = prepare(config, tmp_path / "shapes")
    assert dataset.split("train").image_count == 3
    for split in dataset.splits.values():
        for image in json.loads(split.annotations.read_text())["images"]:
            assert (split.images / image["file_name"]).is_file()
    files = tree(tmp_path / "shapes")
    said.clear()
    prepare(config, tmp_path / "shapes")
    assert said == [f"shapes: already prepared in {tmp_path / 'shapes'}"]
    other = prepare(config, tmp_path / "other")
    assert other.fingerprint == dataset.fingerprint
    assert tree(tmp_path / "other") == files
    more = config.model_copy(update={"splits": {**splits, "test": ShapesSplit(images=1, seed=3)}})
    assert set(prepare(more, tmp_path / "shapes").splits) == {"train", "val", "test"}


def test_drawn_splits_do_not_depend_on_where_or_when(tmp_path: Path, voc_root: Path) -> None:
    moved = tmp_path / "moved"
    for path in sorted(voc_root.rglob("*"), reverse=True):
        if path.is_file():
            (moved / path.relative_to(voc_root)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, moved / path.relative_to(voc_root))
    contents = []
    for root in (voc_root, moved):
        config = VocDataset(name="mine", format="voc", root=str(root), draw=Draw(val=0.25, seed=5))
        dataset = prepare(config, tmp_path / root.name / "out")
        contents.append({name: split.annotations.read_bytes() for name, split in dataset.splits.items()})
    assert contents[0] == contents[1]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, voc_root: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(UserError, match="mine: cannot be written"):
        prepare(own_voc(voc_root), tmp_path / "data" / "mine")


def test_drawn_data_of_earlier_versions_keep_their_fingerprint(tmp_path: Path, voc_root: Path) -> None:
    """Later fields of 'draw' count only where they are set."""
    drawn = VocDataset(name="mine", format="voc", root=str(voc_root), draw=Draw(val=0.25))
    before = prepare(drawn, tmp_path / "data" / "mine")
    together = drawn.model_copy(update={"draw": Draw(val=0.25, together="near_duplicates")})
    after = prepare(together, tmp_path / "data" / "mine")
    assert before.fingerprint != after.fingerprint
    assert module._no_content(drawn)["draw"] == {"out_of", "together"}
    assert module._no_content(together)["draw"] == {"out_of"}
