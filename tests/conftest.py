"""The order of the tests: files that start processes come first, so that no worker is left with one at the end."""

from pathlib import Path

import pytest

_LONG = ("workflow", "training")  # folders, longest first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.path))


def _rank(path: Path) -> int:
    return next((place for place, name in enumerate(_LONG) if path.parent.name == name), len(_LONG))
