"""Names are shown as they are, apart from what steers a terminal or the reading direction."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tood.io.escape import csv_cell, escape, from_csv_cell, is_unicode

ANY = st.text(st.characters())  # surrogates and controls included


@pytest.mark.parametrize(
    "text", ["Größe", "猫", "кот", "بطّة", "कुत्ता", "👩\u200d💻", "🏴\U000e0067\U000e007f", "a<b>&|"]
)
def test_any_script_and_emoji_stay_as_they_are(text: str) -> None:
    assert escape(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\x00b", "a\\x00b"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x9b2J", "\\x9b2J"),
        ("cod\u202egpj", "cod\\u202egpj"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_steers_a_terminal_is_spelt_out(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_line_ends_and_tabs_stay_where_lines_are_wanted() -> None:
    assert escape("a\tb\nc\r\x1b", lines=True) == "a\tb\nc\\r\\x1b"


def test_of_a_long_text_both_ends_are_left() -> None:
    assert escape("a" * 1000 + "b" * 1000, most=10) == "aaaaa … bbbbb"


@given(ANY)
def test_nothing_is_left_that_is_no_text_or_a_control(text: str) -> None:
    found = escape(text)
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in found)
    assert is_unicode(found)
    assert found.encode("utf-8").decode() == found
    assert escape(found) == found


@given(ANY | st.text(st.sampled_from("'\\\\u0=+-@\t\r\n\u202ea")))
def test_a_cell_is_harmless_and_gives_the_text_back(text: str) -> None:
    cell = csv_cell(text)
    assert from_csv_cell(cell) == text
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in cell)
    assert not cell.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert escape(cell) == cell


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("Größe 猫", "Größe 猫"),
        ("it's", "it's"),
        ("=1+1", "'=1+1"),
        ("'a'", "''a'"),
        ("a\\b", "a\\\\b"),
        ("\ta\u202e", "\\u0009a\\u202e"),
    ],
)
def test_a_cell_shows_what_it_was_made_of(text: str, cell: str) -> None:
    assert csv_cell(text) == cell


@pytest.mark.parametrize("old", ["=1+1", "'tis", "a\\b", "x\x1b", ""])
def test_an_older_cell_is_read_as_it_is(old: str) -> None:
    assert from_csv_cell(old) == old
