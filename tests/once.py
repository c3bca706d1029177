"""The type of the fixture ``build_once``."""

from collections.abc import Callable
from pathlib import Path

BuildOnce = Callable[[str, Callable[[Path], object]], Path]
"""Gives the folder of a name, which the first worker that asks for it builds."""
