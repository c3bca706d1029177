"""Values in COCO files: numbers and ids as tools write them, and how a value is described in a message."""

import math
from collections.abc import Mapping
from typing import Any

_LARGEST_ID = 2**63 - 1  # of the arrays that hold ids
_TYPES = {str: "the text", bool: "the truth value", list: "the list", dict: "the mapping"}


def number(value: Any) -> int | float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # of a whole number with hundreds of digits
        return None


def whole(value: Any) -> int | None:
    """A whole number; some tools write it as 1.0."""
    found = number(value)
    return int(found) if found is not None and found % 1 == 0 and abs(found) <= _LARGEST_ID else None


def described(value: Any) -> str:
    """A value with its type, for a message."""
    if value is None:
        return "nothing"
    kind = _TYPES.get(type(value))
    return f"{kind} {value!r}" if kind else repr(value)


def odd_id(place: str, row: Mapping[str, Any]) -> str:
    """What is wrong with the id of an entry."""
    wanted = "a number below 2^63" if isinstance(row.get("id"), int) else "a whole number"
    return f"{place} needs {wanted} as 'id'" + (f"; it has {described(row['id'])}" if "id" in row else "")
