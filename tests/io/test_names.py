"""Which name was meant: never the one that was given, and where the eye cannot tell two apart, in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tood.io.names import Likeness, comparable, nearest_name, twin

LETTERS = st.sampled_from("abAB -_1\t\n\u00a0\u200b\ufeff\u0301éеｔßİıſ")
words = st.text(LETTERS, max_size=6)


@pytest.mark.parametrize(
    ("given_name", "there", "said"),
    [
        ("TOOD", "tood", "upper and lower case"),
        ("re\u0301s", "r\u00e9s", "decomposed"),
        ("r\u00e9s", "re\u0301s", "decomposed"),
        ("tood\u00a0", "tood", "no-break space (U+00A0)"),
        ("to\u200bod", "tood", "zero width space (U+200B)"),
        ("\ufefftood", "tood", "(U+FEFF)"),
        ("a b", "a\u00a0b", "lacks the no-break space (U+00A0)"),
        ("tood ", "tood", "space at an end"),
        ("\u0430tss", "atss", "cyrillic small letter a (U+0430)"),
        ("\uff54ood", "tood", "fullwidth latin small letter t (U+FF54)"),
    ],
)
def test_two_names_that_look_the_same_are_told_apart(given_name: str, there: str, said: str) -> None:
    like = nearest_name(given_name, ["other", there])
    assert like is not None
    assert like.name == there
    assert said in like.reason


def test_a_plain_misspelling_needs_no_words_and_a_far_name_is_no_suggestion() -> None:
    assert nearest_name("tod", ["atss", "tood"]) == Likeness("tood", "")
    assert nearest_name("elephant", ["atss", "tood"]) is None
    assert nearest_name("tood", ["tood"]) is None
    assert twin("tod", ["tood"]) is None


@given(words, st.lists(words, max_size=4))
def test_a_suggestion_is_in_the_list_and_differs_from_what_was_given(name: str, valid: list[str]) -> None:
    like = nearest_name(name, valid)
    if like is None:
        return
    assert like.name in valid
    assert like.name != name
    if comparable(like.name) == comparable(name):
        assert like.reason


@given(st.sampled_from(("tood", "atss", "resnet50", "coco2017")), st.integers(0, 7), LETTERS)
def test_one_letter_too_many_leads_back_to_the_name(name: str, place: int, letter: str) -> None:
    misspelt = name[:place] + letter + name[place:]
    like = nearest_name(misspelt, ("tood", "atss", "resnet50", "coco2017"))
    assert like is not None
    assert like.name == name
