"""Flattening resolved configurations to ``key: text`` tables with the same keys for all methods."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

MISSING = "-"
MAX_LENGTH = 480


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """``{"method": {"head": {"convs": 6}}}`` becomes ``{"method.head.convs": "6"}``.

    Lists stay one value, written as JSON; values longer than ``MAX_LENGTH`` end in an ellipsis.
    """
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            flat |= flatten(value, name)
        else:
            flat[name] = _text(value)
    return flat


def with_same_keys(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Flattened configurations that all have the same keys in the same order, ``-`` where one has none."""
    flat = [flatten(config) for config in configs]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    return [{key: one.get(key, MISSING) for key in keys} for one in flat]


def differing(tables: Sequence[Mapping[str, str]]) -> list[str]:
    """Keys whose values are not the same in all ``tables``, which :func:`with_same_keys` made."""
    return [key for key in (tables[0] if tables else {}) if len({table[key] for table in tables}) > 1]


def _text(value: Any) -> str:
    if value is None or value == "":
        return MISSING
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"
