"""Which of several names was meant by one that is not among them, and in what the two differ to the eye.

Names can look the same and differ: composed and decomposed characters, no-break and zero-width spaces, a Cyrillic
letter among Latin ones. A suggestion that looks like what was typed says what to change.
"""

import difflib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

SPACES = "".join(map(chr, (0xA0, 0x1680, *range(0x2000, 0x200C), 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF)))
"""Characters that look like a space, or like nothing, and are no space to a parser."""
_CUTOFF = 0.5  # of difflib's ratio
_OTHERWISE = {"fp32": "float32", "single": "float32", "bfloat16": "bf16", "tf-32": "tf32"}
"""What people call things that have another name here, and that looks more like a third thing's."""
_LONGEST = 200  # characters of a name that is compared; difflib takes their square


@dataclass(frozen=True)
class Likeness:
    """A name that is there, and why it is not the given one where the eye cannot tell (else empty)."""

    name: str
    reason: str


def nearest_name(given: str, valid: Iterable[str]) -> Likeness | None:
    """The name among ``valid`` that ``given`` most likely meant; never ``given`` itself, None where none is close."""
    names = {name for name in valid if name != given}
    by_key: dict[str, str] = {}
    for name in sorted(names, key=lambda one: (one.casefold() != given.casefold(), one)):
        by_key.setdefault(comparable(name), name)
    key = comparable(given)
    if key in by_key:
        name = by_key[key]
        return Likeness(name, _reason(given, name))
    if (known := _OTHERWISE.get(key)) in names:
        return Likeness(str(known), "")
    close = difflib.get_close_matches(key[:_LONGEST], by_key, n=1, cutoff=_CUTOFF)
    if not close:
        return None
    name = by_key[close[0]]
    return Likeness(name, _strange(given, name))


def comparable(name: str) -> str:
    """The name without what the eye overlooks: Unicode form, case, invisible characters, spaces at the ends."""
    folded = unicodedata.normalize("NFKC", _visible(name)).casefold()
    return unicodedata.normalize("NFKC", folded).strip()


def twin(given: str, valid: Iterable[str]) -> Likeness | None:
    """Like :func:`nearest_name`, but only a name that differs in what the eye overlooks."""
    key = comparable(given)
    return nearest_name(given, [name for name in valid if comparable(name) == key])


def character(one: str) -> str:
    """A character's name and number, as ``no-break space (U+00A0)``."""
    names = {"\t": "tab", "\x85": "line end NEL"}
    name = str(names.get(one) or unicodedata.name(one, "control character"))
    return f"{name.lower()} (U+{ord(one):04X})"


def _hidden_character(text: str) -> str | None:
    """The first character of the text that shows as nothing, or as a space that is none."""
    return next((one for one in text if _is_invisible(one) or (_is_space(one) and one != " ")), None)


def _reason(given: str, name: str) -> str:
    """In what two names differ that are equal to the eye, or but for the case; at least one thing."""
    reasons = [_hidden(given, name), _form(given, name)]
    if _folded(given) != _folded(name) and not any(reasons):
        reasons.append(_strange(given, name) or _strange(name, given, "the name that is there"))
    if _composed(given) != _composed(name) and _folded(given) == _folded(name):
        reasons.append("upper and lower case differ")
    return " and ".join(filter(None, reasons)) or "characters differ that look the same"


def _hidden(given: str, name: str) -> str:
    """Says which invisible character, or space at an end, one of them has and the other has not."""
    found, there = _hidden_character(given), _hidden_character(name)
    if found is not None and found not in name:
        return f"it has a {character(found)}"
    if there is not None and there not in given:
        return f"it lacks the {character(there)} of the name that is there"
    ends = [_visible(one) != _visible(one).strip() for one in (given, name)]
    if ends[0] != ends[1]:
        return "it has a space at an end" if ends[0] else "it lacks the space at an end of the name that is there"
    return ""


def _form(given: str, name: str) -> str:
    """Says which of them has its accents as characters of their own (decomposed), if that is what differs."""
    forms = [_visible(one).strip().casefold() for one in (given, name)]
    if forms[0] == forms[1] or _folded(given) != _folded(name):
        return ""
    mine, other = (
        ("decomposed", "composed") if _visible(given).strip() != _composed(given) else ("composed", "decomposed")
    )
    return f"it has {mine} characters (another Unicode form) and the name that is there {other} ones"


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", _visible(name).strip())


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", _composed(name).casefold())


def _visible(name: str) -> str:
    return "".join(" " if _is_space(one) else one for one in name if not _is_invisible(one))


def _strange(given: str, name: str, which: str = "it") -> str:
    """Names the first character beyond ASCII, or invisible one, that the other name does not have."""
    odd = _hidden_character(given)
    if odd is None or odd in name:
        odd = next((one for one in given if not one.isascii() and one not in name), None)
    return f"{which} has the character {character(odd)}" if odd is not None else ""


def _is_space(one: str) -> bool:
    return one.isspace()


def _is_invisible(one: str) -> bool:
    return unicodedata.category(one) in ("Cf", "Cc") and not one.isspace()
