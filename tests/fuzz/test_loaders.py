"""Whatever a file of a data set or of ``params/`` says: it is read, or it is one sentence, and nothing is written.

``benchmarks/fuzz.py`` looks further, for longer.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter

from tood.config.datasets import DatasetConfig, load_dataset
from tood.config.study import load_study
from tood.data.findings import Findings
from tood.data.formats.reading import read_dataset
from tood.io.errors import UserError
from tood.io.escape import escape

PARAMS = Path(__file__).parents[2] / "params"
TRIES = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

PLACES = [
    "a.png",
    "../evil.png",
    "/etc/passwd",
    "..\\evil.png",
    "link.png",
    "a\0.png",
    "n" * 300,
    ".",
    "~",
    "C:\\a.png",
]
WORDS = st.one_of(st.sampled_from([*PLACES, "cat", "<b>", "\x1b[31m", "\u202e", "=1+1", "猫"]), st.text(max_size=8))
NUMBERS = st.one_of(
    st.integers(-3, 70), st.sampled_from([2**63, -(2**63), 10**400, 1e308, -0.0, 1.5]), st.floats(allow_nan=False)
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=6,
)


def rows(**fields: Any) -> st.SearchStrategy[Any]:
    """Entries with the right fields, each of which is right, wrong or not there."""
    made = {name: st.one_of(right, VALUES) for name, right in fields.items()}
    return st.one_of(st.lists(st.one_of(st.fixed_dictionaries({}, optional=made), VALUES), max_size=3), VALUES)


BOXES = st.lists(NUMBERS, min_size=4, max_size=4)
COCO = st.fixed_dictionaries(
    {
        "images": rows(id=st.just(1), file_name=st.just("a.png"), width=st.just(64), height=st.just(48)),
        "annotations": rows(id=st.just(1), image_id=st.just(1), category_id=st.just(1), bbox=BOXES, area=NUMBERS),
        "categories": rows(id=st.just(1), name=WORDS),
    }
)
NAMES = st.sampled_from(["annotation", "object", "name", "bndbox", "xmin", "ymin", "xmax", "ymax", "size", "filename"])


def one_sentence(call: Callable[[], object]) -> None:
    """Call it; what it raises must be for the user."""
    said = "."
    try:
        call()
    except UserError as error:
        said = str(error)
    assert said.endswith((".", "?"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures a.png and b.png beside one that no data set may reach."""
    above = tmp_path_factory.mktemp("above")
    root = above / "set"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for place in (root / "images/a.png", root / "images/b.png", above / "evil.png"):
        Image.new("RGB", (64, 48)).save(place)
    (root / "data.yaml").write_text("names: [cat]")
    (root / "b.txt").write_text("images/b.png")
    (root / "b.stems").write_text("b")
    (root / "labels/b.txt").write_text("0 0.5 0.5 0.2 0.2")
    (root / "labels/b.xml").write_text("<annotation/>")
    (root / "b.json").write_text('{"images": [], "annotations": [], "categories": []}')
    return root


def looked_at(root: Path, **described: Any) -> None:
    """Read the data set; pictures above its folder are never part of it, and no file is made."""
    before = sorted(root.parent.rglob("*"))
    config = TypeAdapter(DatasetConfig).validate_python({"name": "x", "root": str(root), **described})
    findings = Findings()

    def read() -> None:
        dataset = read_dataset(config, root, findings)
        findings.raise_errors("x")
        for split in dataset.splits:
            for image in split.images:
                assert split.path(image).resolve().is_relative_to(root.resolve())

    one_sentence(read)
    for line in (*findings.sentences("error"), *findings.sentences("note")):
        assert escape(line) == line
    assert sorted(root.parent.rglob("*")) == before


@TRIES
@given(content=COCO)
def test_coco(root: Path, content: Any) -> None:
    try:
        (root / "a.json").write_text(json.dumps(content))
    except ValueError:  # a number that json's own writer refuses
        assume(False)
    splits = {
        name: {"images": "images", "annotations": file} for name, file in (("train", "a.json"), ("val", "b.json"))
    }
    looked_at(root, format="coco", splits=splits)


@TRIES
@given(data=st.data())
def test_voc(root: Path, data: st.DataObject) -> None:
    def element(depth: int) -> str:
        name = data.draw(NAMES)
        inner = data.draw(st.lists(st.booleans(), max_size=3)) if depth < 4 else []
        text = data.draw(st.one_of(st.sampled_from(["cat", "1", "nan", "1e999", "&x;", "../evil.png", "&#27;"]), WORDS))
        return f"<{name}>{text}{''.join(element(depth + 1) for _ in inner)}</{name}>"

    start = data.draw(st.sampled_from(["", "<?xml version='1.0'?>", '<!DOCTYPE a [<!ENTITY x SYSTEM "/etc/passwd">]>']))
    body = "".join(element(1) for _ in range(data.draw(st.integers(0, 3))))
    (root / "labels/a.xml").write_text(f"{start}<annotation>{body}</annotation>", encoding="utf-8", errors="replace")
    (root / "a.stems").write_text(data.draw(WORDS) + "\na", encoding="utf-8", errors="replace")
    looked_at(root, format="voc", images="images", annotations="labels", splits={"train": "a.stems", "val": "b.stems"})


@TRIES
@given(place=WORDS, rows=st.lists(st.one_of(st.lists(SCALARS, max_size=7), st.lists(NUMBERS, min_size=5, max_size=5))))
def test_yolo(root: Path, place: str, rows: list[list[Any]]) -> None:
    (root / "a.txt").write_text(f"{place}\nimages/a.png", encoding="utf-8", errors="replace")
    text = "\n".join(" ".join(map(str, row)) for row in rows)
    (root / "labels/a.txt").write_text(text, encoding="utf-8", errors="replace")
    looked_at(root, format="yolo", splits={"train": "a.txt", "val": "b.txt"})


@TRIES
@given(content=st.one_of(VALUES, st.fixed_dictionaries({"names": VALUES}, optional={"nc": VALUES})))
def test_yolo_names(root: Path, content: Any) -> None:
    named = root / "data.yaml"
    before = named.read_text()
    named.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8", errors="replace")
    try:
        looked_at(root, format="yolo", splits={"train": "b.txt", "val": "b.txt"})
    finally:
        named.write_text(before)


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "params"
    shutil.copytree(PARAMS, folder)
    return folder


FILES = [
    ("studies/x.yaml", "studies/demo.yaml"),
    ("methods/tood.yaml", "methods/tood.yaml"),
    ("schedules/demo.yaml", "schedules/demo.yaml"),
    ("backbones/light.yaml", "backbones/light.yaml"),
    ("datasets/shapes.yaml", "datasets/shapes.yaml"),
]


@pytest.mark.parametrize(("place", "valid"), FILES)
@settings(TRIES, max_examples=30)
@given(data=st.data())
def test_what_is_below_params(params: Path, place: str, valid: str, data: st.DataObject) -> None:
    """One part of a valid file is replaced by anything."""
    content = yaml.safe_load((PARAMS / valid).read_text())
    inner: Any = content
    while True:
        key = data.draw(st.sampled_from(sorted(inner)) if inner else st.just("x"))
        if not isinstance(inner.get(key), dict) or data.draw(st.booleans()):
            break
        inner = inner[key]
    inner[key] = data.draw(VALUES)
    (params / place).write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8", errors="replace")
    if place != "studies/x.yaml":
        shutil.copy(PARAMS / "studies/demo.yaml", params / "studies/x.yaml")
    try:
        one_sentence(lambda: load_study("x", params))
    finally:
        shutil.copy(PARAMS / valid, params / valid)


@TRIES
@given(
    name=st.one_of(WORDS, st.sampled_from(["../studies/demo", "x" * 5000, "a/../b", "demo@../x", "demo@" + "x" * 300]))
)
def test_names_on_the_command_line(params: Path, name: str) -> None:
    one_sentence(lambda: load_study(name, params))
    one_sentence(lambda: load_dataset(name, params))
