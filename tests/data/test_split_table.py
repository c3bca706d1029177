"""A split as columns: the same from its json and from the flat file, and nothing in it grows with Python objects."""

import gc
import json
from dataclasses import fields
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tood.config.backbone import PixelsConfig
from tood.config.images import ImagesConfig
from tood.data.columns import Texts
from tood.data.dataset import DetectionDataset
from tood.data.formats.records import BoxRecord, Category, ImageRecord, RawSplit, to_coco
from tood.data.network_input import NetworkInput
from tood.data.planned_batches import PassPlan, PlannedBatches, TrainingPlan
from tood.data.prepare import write_coco
from tood.data.prepared import PreparedSplit
from tood.data.split_table import SplitTable
from tood.data.training_targets import TrainingTargets
from tood.io.errors import UserError

NAMES = ("Käse", "犬", "🙂")


def raw_split(images: int, boxes: int) -> RawSplit:
    rng = np.random.default_rng(images)
    records = [ImageRecord(3 * k + 1, f"ü/{k}.jpg", 100 + k, 90) for k in range(images)][::-1]
    found = [
        BoxRecord(
            id=k,
            image_id=3 * int(rng.integers(images)) + 1,
            category_id=int(rng.integers(1, 4)),
            bbox=tuple(rng.uniform(1, 60, 4).tolist()),  # type: ignore[arg-type]
            area=float(rng.uniform(1, 99)),
            crowd=k % 7 == 0,
            ignore=k % 11 == 0,
        )
        for k in range(boxes)
    ]
    return RawSplit("train", Path("images"), records, found)


CATEGORIES = tuple(Category(k, name) for k, name in enumerate(NAMES, start=1))


def written(folder: Path, images: int = 9, boxes: int = 40) -> PreparedSplit:
    annotations, table = folder / "train.json", folder / "train.npz"
    write_coco(annotations, raw_split(images, boxes), CATEGORIES)
    SplitTable.of_json(annotations).write_flat(table)
    return PreparedSplit("train", annotations, folder, images, boxes, "", table)


def columns(table: SplitTable) -> dict[str, Any]:
    flat = {one.name: getattr(table, one.name) for one in fields(table)}
    flat |= {f"boxes.{one.name}": getattr(table.annotations, one.name) for one in fields(table.annotations)}
    del flat["annotations"]
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in flat.items()}


@pytest.mark.parametrize("boxes", [0, 1, 40])
def test_text_written_in_pieces_is_the_whole_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boxes: int) -> None:
    monkeypatch.setattr("tood.data.prepare._PIECE", 7)
    split = raw_split(9, boxes)
    write_coco(tmp_path / "a.json", split, CATEGORIES)
    expected = json.dumps(to_coco(split, CATEGORIES), ensure_ascii=False) + "\n"
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("boxes", [0, 40])
def test_flat_file_holds_what_the_json_holds_and_is_always_the_same(tmp_path: Path, boxes: int) -> None:
    split = written(tmp_path, boxes=boxes)
    read = SplitTable.of_json(split.annotations)
    assert columns(SplitTable.of_split(split)) == columns(read)
    assert read.classes == NAMES
    assert read.file_names[0] == "ü/0.jpg"
    before = (tmp_path / "train.npz").read_bytes()
    read.write_flat(tmp_path / "train.npz")
    assert (tmp_path / "train.npz").read_bytes() == before


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"{}" * 99])
def test_a_damaged_flat_file_is_named(tmp_path: Path, damage: Any) -> None:
    split = written(tmp_path)
    path = tmp_path / "train.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"train\.npz: is not the table of a split .* prepare the data set again\.$"):
        SplitTable.of_split(split)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", category_ids=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match=r"evil\.npz: is not the table"):
        SplitTable.of_flat(tmp_path / "evil.npz", tmp_path / "evil.json")


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=12)), st.data())
def test_texts_are_kept(texts: list[str], data: st.DataObject) -> None:
    kept = Texts.of(texts)
    assert kept.tolist() == texts
    chosen = data.draw(st.lists(st.integers(0, len(texts) - 1))) if texts else []
    assert kept.take(np.array(chosen, np.intp)).tolist() == [texts[k] for k in chosen]


def reachable(root: object) -> int:
    """Objects that a process touches when it uses ``root``: each is a page that a worker may have to copy."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if id(item) not in seen and not isinstance(item, type | ModuleType | FunctionType):
            seen.add(id(item))
            waiting += gc.get_referents(item)
    return len(seen)


def test_what_workers_hold_has_no_object_for_each_image_or_box(tmp_path: Path) -> None:
    counts = []
    for images, boxes in ((10, 30), (200, 900)):
        folder = tmp_path / str(images)
        folder.mkdir()
        targets = TrainingTargets.of(SplitTable.of_split(written(folder, images, boxes), NAMES))
        given = NetworkInput(ImagesConfig(), PixelsConfig())
        dataset = DetectionDataset(targets, folder, given, train=True, seed=0)
        plans = (
            TrainingPlan(dataset, batch=10, seed=0, rank=0, world=1),
            PassPlan(dataset, batch=1, rank=0, world=1),
        )
        for plan in plans:
            plan.step(0)
        counts.append([reachable(PlannedBatches(dataset, plan)) for plan in plans])
    for few, many in zip(*counts, strict=True):
        assert abs(many - few) <= 2, "small numbers are one object wherever they are"
