import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tood.config.datasets import Draw
from tood.data.findings import Findings
from tood.data.formats.records import BoxRecord, Category, ImageRecord, RawDataset, RawSplit
from tood.data.formats.splits import draw_out, draw_splits


def pictures(names: Iterable[str]) -> dict[str, Path]:
    return {name: Path(name) for name in names}


keys = st.sets(st.text("abcdef0123456789", min_size=1, max_size=6), min_size=5, max_size=60)
draws = st.builds(Draw, val=st.floats(0.01, 0.4), test=st.sampled_from([0.0, 0.1, 0.3]), seed=st.integers(0, 99))


@given(keys, draws, st.randoms(use_true_random=False))
def test_splits_divide_the_images_whatever_their_order(names: set[str], draw: Draw, rng: random.Random) -> None:
    ordered = sorted(names)
    shuffled = list(ordered)
    rng.shuffle(shuffled)
    findings = Findings()
    splits = draw_splits(pictures(ordered), draw, findings, "here")
    assert splits == draw_splits(pictures(shuffled), draw, findings, "here")
    assert sorted(name for split in splits.values() for name in split) == ordered
    assert all(splits[name] for name in splits)
    assert set(splits) == {"train", "val"} | ({"test"} if draw.test else set())
    assert abs(len(splits["val"]) - draw.val * len(names)) <= 1


def test_seeds_give_different_splits_and_shares_are_met() -> None:
    names = [f"{index:04}" for index in range(1000)]
    drawn = {seed: draw_splits(pictures(names), Draw(val=0.2, test=0.1, seed=seed), Findings(), "") for seed in (0, 1)}
    assert drawn[0]["val"] != drawn[1]["val"]
    assert {name: len(split) for name, split in drawn[0].items()} == {"train": 700, "val": 200, "test": 100}


def test_new_images_move_few_of_the_others() -> None:
    names = [f"{index:04}" for index in range(1000)]
    before = set(draw_splits(pictures(names), Draw(val=0.2), Findings(), "")["val"])
    after = set(
        draw_splits(pictures([*names, *(f"new{index}" for index in range(50))]), Draw(val=0.2), Findings(), "")["val"]
    )
    assert len(before - after) < 20


def test_too_few_images_is_an_error() -> None:
    findings = Findings()
    assert draw_splits(pictures("ab"), Draw(val=0.2, test=0.2), findings, "pictures") == {}
    assert findings.sentences("error") == ["pictures: 2 images cannot be divided into train, val, test; add images"]


def photograph(seed: int) -> Image.Image:
    """A smooth random picture, as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)


def test_near_duplicates_stay_within_one_split(tmp_path: Path) -> None:
    files = {}
    for number in range(8):
        picture = photograph(number)
        versions = {
            "": picture,
            "_small": picture.resize((160, 120)),
            "_next": picture.crop((3, 2, 320, 240)),
            "_square": picture.resize((200, 200)),
        }
        for suffix, one in versions.items():
            key = f"{number}{suffix}"
            files[key] = tmp_path / f"{key}.jpg"
            one.save(files[key], quality=60 if suffix else 95)
    findings = Findings()
    splits = draw_splits(files, Draw(val=0.25, test=0.25, together="near_duplicates"), findings, "here")
    assert {name: len(keys) for name, keys in splits.items()} == {"train": 16, "val": 8, "test": 8}
    sides = {name: {key.partition("_")[0] for key in keys} for name, keys in splits.items()}
    assert sum(len(one) for one in sides.values()) == 8
    (note,) = findings.sentences("note")
    assert "8 groups of near-duplicate pictures (32 of 32 pictures)" in note


def test_versions_that_roboflow_made_of_a_picture_stay_together_by_name(tmp_path: Path) -> None:
    files = {}
    for number in range(30):
        key = f"img-{number % 10}_jpg.rf.{number:032x}"
        files[key] = tmp_path / f"{key}.jpg"
        photograph(number).save(files[key])
    splits = draw_splits(files, Draw(val=0.2, together="near_duplicates"), Findings(), "here")
    sources = {name: {key.partition(".rf.")[0] for key in keys} for name, keys in splits.items()}
    assert len(splits["val"]) == 6
    assert not sources["train"] & sources["val"]


def test_different_and_unreadable_pictures_are_drawn_one_by_one(tmp_path: Path) -> None:
    files = {f"{number}": tmp_path / f"{number}.png" for number in range(12)}
    for number, path in enumerate(files.values()):
        photograph(number).save(path)
    files["broken"] = tmp_path / "broken.png"
    files["broken"].write_bytes(b"no picture")
    findings = Findings()
    draw = Draw(val=0.3)
    assert draw_splits(files, draw.model_copy(update={"together": "near_duplicates"}), findings, "") == draw_splits(
        files, draw, findings, ""
    )
    assert not findings.all


def test_a_single_film_cannot_be_divided_and_is_refused(tmp_path: Path) -> None:
    files = {f"{number}": tmp_path / f"{number}.jpg" for number in range(6)}
    for number, path in enumerate(files.values()):
        photograph(1).crop((number, 0, 320, 240)).save(path)
    findings = Findings()
    assert draw_splits(files, Draw(val=0.2, together="near_duplicates"), findings, "film") == {}
    (error,) = findings.sentences("error")
    assert "film: 6 images cannot be divided into train, val" in error
    assert "draw.together" in error


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 9), min_size=4, max_size=20),
    st.sampled_from([0.1, 0.2, 0.4]),
    st.integers(0, 9),
)
def test_groups_fill_a_split_up_to_its_share_at_most(sizes: list[int], val: float, seed: int) -> None:
    files = {
        f"{group}-{one}": Path(f"/nowhere/{group}_jpg.rf.{'0' * 31}{one}.jpg")
        for group, size in enumerate(sizes)
        for one in range(size)
    }
    splits = draw_splits(files, Draw(val=val, seed=seed, together="near_duplicates"), Findings(), "")
    assert sorted(key for keys in splits.values() for key in keys) == sorted(files)
    assert not {key.partition("-")[0] for key in splits["train"]} & {key.partition("-")[0] for key in splits["val"]}
    assert splits["train"]
    assert 0 < len(splits["val"]) <= max(round(val * len(files)), min(sizes))


def test_val_is_drawn_out_of_train_and_test_stays() -> None:
    images = [ImageRecord(number, f"{number}.png", 9, 9) for number in range(1, 11)]
    boxes = [BoxRecord(number, number, 1, (0, 0, 5, 5), 25) for number in range(1, 11)]
    train, test = (
        RawSplit("train", Path("a"), images[:8], boxes[:8]),
        RawSplit("test", Path("b"), images[8:], boxes[8:]),
    )
    dataset = RawDataset((Category(1, "cat"),), (train, test))
    drawn = draw_out(dataset, Draw(val=0.25, out_of="train"), Findings(), "here")
    assert [split.name for split in drawn.splits] == ["train", "test", "val"]
    new_train, same, val = drawn.splits
    assert same is test
    assert (len(new_train.images), len(val.images), val.folder) == (6, 2, Path("a"))
    assert {image.id for image in val.images} == {box.image_id for box in val.boxes}
    assert {image.id for image in [*new_train.images, *val.images]} == set(range(1, 9))
