"""Values in COCO files: numbers and ids as tools write them."""

import math
from collections.abc import Mapping
from typing import Any

from tood.config.values import typed

_LARGEST_ID = 2**63 - 1  # of the arrays that hold ids


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


def side(value: Any) -> int | None:
    """Pixels of an image's side, also of a text or a fraction, rounded; 0 where none is given, None if it is odd."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    found = 0 if value is None else number(value)
    return None if found is None or found < 0 else round(found)


def odd_id(place: str, row: Mapping[str, Any]) -> str:
    """What is wrong with the id of an entry."""
    wanted = "a number below 2^63" if isinstance(row.get("id"), int) else "a whole number"
    return f"{place} needs {wanted} as 'id'" + (f"; it has {typed(row['id'])}" if "id" in row else "")
