"""Words for the values of a YAML file: what one is, with its type, and how to write another type."""

import re
import unicodedata
from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

from tood.config.base import TruthValue
from tood.io.names import SPACES, character

_LONGEST = 200  # characters of a value that a sentence quotes
_WORDS = {True: ("yes", "on", "true", "y"), False: ("no", "off", "false", "n")}
"""What YAML reads as true and false, in small letters, and people's short forms of it."""
_COLON = re.compile(rf"[^\s:：]+ ?(?P<colon>：|:(?=[{SPACES}])|:(?=\S))")


def typed(value: object) -> str:
    """A value with its type: ``the text '3'``, ``the number 3``, ``the truth value true``, ``empty``."""
    if isinstance(value, TruthValue):
        value = value.value
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, str):
        return f"the text {_short(value)}" if value else "an empty text"
    if isinstance(value, int | float):
        return f"the number {_short(value)}"
    if isinstance(value, date):
        return f"the date {value.isoformat()}"
    if isinstance(value, Mapping):
        return f"the mapping {_short(dict(value))}"
    return f"the list {_short(list(value))}" if isinstance(value, list | tuple) else _short(value)


def remedy_for(value: object, wanted: type, names: Collection[str] = ()) -> str:
    """What to write so that a value is of the type that is wanted, of a text one of the ``names``; '' if unknown."""
    if isinstance(value, TruthValue):
        value = value.value
    if value is None:
        return "give it, or leave the field out" if not names else ""
    if wanted is str:
        return _as_text(value, names)
    if wanted in (int, float) and isinstance(value, str):
        return _as_number(value, wanted)
    if wanted is list and isinstance(value, str | int | float):
        return f"write it in brackets, as [{value}]"
    if wanted is dict:
        return _as_mapping(value)
    return ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def _as_text(value: object, names: Collection[str]) -> str:
    if isinstance(value, bool):
        meant = next((name for name in _WORDS[value] if not names or name in names), None)
        if meant is None:
            return ""
        quoted = f"put '{meant}' in quotes" if names else "put it in quotes"
        return f"YAML reads {', '.join(_WORDS[value][:3])} as {'true' if value else 'false'}, so {quoted}"
    if isinstance(value, int | float | date) and (not names or str(value) in names):
        return f"put it in quotes, as '{value}'" if names else "put it in quotes as it is written"
    return ""


def _as_number(value: str, wanted: type) -> str:
    plain = unicodedata.normalize("NFKC", value).replace("−", "-").strip().strip("'\"").strip()
    if _is_number(plain, wanted):
        return f"leave out the quotes, as {plain}" if plain == value.strip("'\" ") else f"write it plainly, as {plain}"
    if plain.count(",") == 1 and _is_number(point := plain.replace(",", "."), wanted):
        return f"write a point instead of the comma, as {point}"
    number = re.match(r"[-+]?\d+(\.\d+)?", plain)
    if number and re.fullmatch(r"\s*(px|pixels?|epochs?|steps?|images?|iterations?)", plain[number.end() :]):
        return f"write the number alone, as {number[0]}"
    if number and wanted is float and plain[number.end() :].strip() == "%":
        return f"write it as a fraction, as {float(number[0]) / 100:g}"
    return ""


def _is_number(text: str, wanted: type) -> bool:
    try:
        wanted(text)
    except ValueError:
        return False
    return True


def _as_mapping(value: object) -> str:
    if isinstance(value, list | tuple):
        return "leave out the dashes (or brackets), which make a list"
    if not isinstance(value, str) or (found := _COLON.match(value)) is None:
        return ""
    colon, after = found["colon"], value[found.end() : found.end() + 1]
    if colon != ":":
        return f"it has a {character(colon)}, where YAML wants ':' and a space"
    if after in SPACES:
        return f"it has a {character(after)} after the colon, where YAML wants a space"
    return "put a space behind the colon"
