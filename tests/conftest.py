"""The order of the tests, and what all of them may use."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tood.io.console import LineFormatter

_LONG = ("workflow", "training")  # folders, longest first


class _Kept(logging.Handler):
    """Keeps lines as the console shows them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(LineFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines that the package has said since the test began, as the console shows them."""
    logger, handler = logging.getLogger("tood"), _Kept()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.lines
    logger.setLevel(level)
    logger.removeHandler(handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start processes come first, so that no worker is left with one at the end."""
    items.sort(key=lambda item: _rank(item.path))


def _rank(path: Path) -> int:
    return next((place for place, name in enumerate(_LONG) if path.parent.name == name), len(_LONG))
