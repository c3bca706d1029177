"""JSON and YAML of unknown origin: whatever a file says, it is read in bounded time and memory, or one sentence."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest

from tood.io import read as documents
from tood.io.errors import UserError
from tood.io.read import read_json, read_yaml


def refusal(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as caught:
        (read_json if path.suffix == ".json" else read_yaml)(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    assert len(sentence) < 600
    return sentence


def nested_aliases(first: str, row: str) -> str:
    """Nine levels, each of which names the one before nine times."""
    lines = [f"a: &a {first}"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} " + row.format(", ".join([f"*{before}"] * 9)))
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("!!python/object/apply:os.system ['touch evil']", "only plain values are read, none with the tag"),
        ("x: !!python/name:os.system", "only plain values are read"),
        ("x: !!binary aGVsbG8=", "only plain values are read"),
        (nested_aliases("[x, x, x]", "[{}]"), "each alias counted as what it stands for"),
        (nested_aliases("{x: 1}", "{{<<: [{}]}}"), "each alias counted as what it stands for"),
        ("x: &a [*a]", "what begins in line 1 contains itself"),
        ("&a\nx: *a", "contains itself"),
        ("[" * 60 + "]" * 60, "is nested more than 50 deep"),
        ("[" * 50_000, "is nested more than 50 deep"),
        ("a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 20 + "*a" + "]" * 20, "is nested more than 50 deep"),
        ("[" + "x, " * 50_001 + "x]", "holds more than 50,000 values"),
        ("x: " + "9" * 5000, "the number in line 1 is too long"),
        ("\nx: 0x" + "f" * 90, "the number in line 2 is too long"),
        ("x: 1" + ":59" * 400 + ".5", "the number in line 1 is too long"),
        ("x: !!int ''", "a value cannot be read as int in line 1"),
        ("x: !!bool maybe", "a value cannot be read as bool in line 1"),
        ("x: !!timestamp soon", "a value cannot be read as timestamp in line 1"),
        ("x: 2020-99-99", "a value cannot be read as timestamp in line 1"),
        ('x: "\\0"', "has a NUL or half a character"),
        ('"\\ud800": 1', "has a NUL or half a character"),
        ("a: 1\n---\na: 2", "is not valid YAML"),
        ("a:\tb\n\tc", "is not valid YAML"),
        (b"a: 1\nb: \xff", "line 2 has the byte 0xff, which is not UTF-8"),
        ("x: *nowhere", "found undefined alias"),
        ("a:\n  b: 1\n\tc: 2", "line 3 is indented with a tab"),
        ("draw:\n  val: 1\n\u00a0\u00a0seed: 2", "no-break space (U+00A0) in line 3"),
        ("classes:\n  -\u00a0cat", "no-break space (U+00A0) in line 2"),
        ("root: \ufeffmine", "(U+FEFF) in line 1"),
        ("format：voc\nroot: r", "line 1 has a fullwidth colon (U+FF1A)"),
        ("a:\u00a0b\nc: d", "line 1 has a no-break space (U+00A0)"),
        ("a: 1\r\nb: 2\r\na: 3", "line 1 and again in line 3"),
        ("a: 1\rb: 2\ra: 3", "line 1 and again in line 3"),
        ("a: '\u2028'\nb: 1\nb: 2", "line 2 and again in line 3"),
        ("a: \x07", "(U+0007) is not allowed in line 1, column 4"),
        ("a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2", "resolve the merge that left <<<<<<< in line 2"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "pointer of Git LFS"),
        ("\n<!DOCTYPE html>\n<html>", "is a web page (HTML)"),
        ("a: '\u00fc'".encode("cp1252"), "line 1 has the byte 0xfc, which is not UTF-8"),
        ("a: '\u00fc'".encode("utf-16-le"), "is UTF-16 without a byte order mark"),
    ],
)
def test_yaml_that_means_harm_is_one_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    assert sentence in refusal(tmp_path / "x.yaml", text)
    assert list(tmp_path.iterdir()) == [tmp_path / "x.yaml"]


def test_yaml_of_many_classes_a_date_and_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("\ufeffnames: {" + ", ".join(f"{k}: class {k}" for k in range(10_000)) + "}\nwhen: 2026-01-01\n")
    assert len(read_yaml(path)["names"]) == 10_000


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 1_000_000, "nested too deeply"),
        ('{"a":' * 1_000_000, "nested too deeply"),
        ("[" + "9" * 5000 + "]", "Exceeds the limit (4300 digits)"),
        ("[NaN]", "NaN is no number of JSON"),
        ('{"a": -Infinity}', "-Infinity is no number of JSON"),
        ('["\\ud83d"]', "half of a character"),
        ('["\\udc00\\ud83d"]', "half of a character"),
        ('{"a": "\x01"}', "Invalid control character"),
        (b'[\n"\xff"]', "line 2 has the byte 0xff, which is not UTF-8"),
        ("{} {}", "Extra data"),
        ("", "it is empty"),
        ('{"a": 1,\r\n "b": }', "in line 2, column 7"),
        ('{"a": 1,\r "b": }', "in line 2, column 7"),
        ('{"a": 1}\n{"a": 2}\n', "is JSON Lines"),
        ('{"a": 1}\n}', "Extra data in line 2, column 1"),
        ('{"a": 1,\n>>>>>>> theirs\n}', "resolve the merge that left >>>>>>> in line 2"),
        ("version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        ("<html><body>404</body></html>", "is a web page (HTML)"),
        ("<?xml version='1.0'?><Error/>", "is XML"),
        (b"\x1f\x8b\x08\x00", "is compressed (gzip)"),
    ],
)
def test_json_that_means_harm_is_one_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    assert sentence in refusal(tmp_path / "x.json", text)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_text_is_read_in_the_encoding_that_its_mark_declares(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "x.json").write_text('{"größe": "\\ud83d\\ude00"}', encoding=encoding)
    (tmp_path / "x.yaml").write_text("größe:\r\n  猫: 1\r\n", encoding=encoding)
    assert read_json(tmp_path / "x.json") == {"größe": "😀"}
    assert read_yaml(tmp_path / "x.yaml") == {"größe": {"猫": 1}}


@pytest.mark.parametrize(
    ("there", "asked", "said"),
    [
        ("Mine.json", "mine.json", "upper and lower case"),
        ("re\u0301s.json", "r\u00e9s.json", "decomposed"),
        ("a\u00a0b.json", "a b.json", "U+00A0"),
    ],
)
def test_a_missing_file_has_its_look_alike_named(tmp_path: Path, there: str, asked: str, said: str) -> None:
    (tmp_path / there).touch()
    with pytest.raises(UserError) as caught:
        read_json(tmp_path / asked)
    assert f"{tmp_path / asked}: no such file, but '{there}' is there" in str(caught.value)
    assert said in str(caught.value)


def test_a_link_to_nothing_names_what_it_should_lead_to(tmp_path: Path) -> None:
    (tmp_path / "x.json").symlink_to("gone.json")
    with pytest.raises(UserError, match=r"x\.json: no such file, only a link to gone\.json"):
        read_json(tmp_path / "x.json")


def test_whole_characters_written_in_halves_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('["\\ud83d\\ude00", "\\\\ud83d", "猫"]', encoding="utf-8")
    assert read_json(path) == ["😀", "\\ud83d", "猫"]


def test_a_json_that_would_not_fit_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "MOST_JSON_MEMORY", 64_000_000)
    assert "would take about 0.1 GB of memory" in refusal(tmp_path / "x.json", "[" + "[]," * 1_000_000 + "[]]")
    monkeypatch.setattr(documents, "LARGEST_JSON", 1 << 20)
    assert "has more than 1 MB" in refusal(tmp_path / "x.json", " " * (1 << 21))


def test_the_estimate_is_about_what_a_coco_file_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"id": 1, "image_id": 2, "category_id": 3, "bbox": [1.5] * 4, "area": 9.5, "segmentation": [[2.5] * 40]}
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"annotations": [entry] * 2000}))
    tracemalloc.start()
    read_json(path)
    _, taken = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    monkeypatch.setattr(documents, "MOST_JSON_MEMORY", int(0.7 * taken))
    assert "would take" in refusal(path, path.read_bytes())
    monkeypatch.setattr(documents, "MOST_JSON_MEMORY", int(1.5 * taken))
    read_json(path)


@pytest.mark.parametrize("name", ["x.json", "x.yaml"])
def test_pipes_and_devices_keep_nobody_waiting(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="is a pipe, a socket or a device"):
        (read_json if name.endswith("json") else read_yaml)(tmp_path / name)
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="is a pipe, a socket or a device"):
        read_json(tmp_path / "zero")


def test_large_files_of_settings_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(UserError, match="has more than 2 MB"):
        read_yaml(path)
