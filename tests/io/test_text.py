"""Encodings of text files: what declares itself is read, what does not is refused by name and line."""

from pathlib import Path

import pytest

from tood.io.errors import UserError
from tood.io.text import read_text

TEXT = "größe 猫\nzwei\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_declared_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(TEXT.encode(encoding))
    assert read_text(path) == TEXT


def test_big_endian_with_its_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xfe\xff" + TEXT.encode("utf-16-be"))
    assert read_text(path) == TEXT


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("eins\ngröße\n".encode("cp1252"), ["line 2", "0xf6", "UTF-8"]),
        ("eins\n".encode("utf-16-le"), ["UTF-16", "UTF-8"]),
        (b"\xff\xfe" + "eins".encode("utf-16-le")[:-1], ["UTF-16", "UTF-8"]),
        (b"a\x00b and more", ["NUL"]),
    ],
)
def test_others_are_refused(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_text(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert all(word in str(caught.value) for word in words)
