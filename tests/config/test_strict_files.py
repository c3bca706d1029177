"""Reading files: whatever is wrong with one is a sentence that names it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tood.io.errors import UserError
from tood.io.read import read_json, read_yaml

READERS = (read_json, read_yaml)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3\n", "key 'a' is in line 1 and again in line 3"),
        ("runs:\n  x: {lr: 1,\n      lr: 2}\n", "key 'lr' is in line 2 and again in line 3"),
        ("when: 2020-99-99\n", "is not valid YAML"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_yaml_that_says_two_things_or_none_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_merging_an_anchor_is_no_repetition(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: &a {x: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, y: 3}\n")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 2, "y": 3}}


@pytest.mark.parametrize("read", READERS)
def test_a_folder_is_no_file(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    with pytest.raises(UserError, match="cannot be read") as caught:
        read(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("read", READERS)
def test_a_file_without_permission_is_named(
    tmp_path: Path, read: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "x.yaml").touch()
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(UserError, match=r"x\.yaml: cannot be read: Permission denied"):
        read(tmp_path / "x.yaml")


@pytest.mark.parametrize("read", READERS)
def test_bytes_that_are_no_text_and_endless_nesting_are_refused(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    path = tmp_path / "x.yaml"
    for content in (b"\xff\xfe\x00", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"is not whole UTF-16|is not valid|is nested more than 50 deep"):
            read(path)
