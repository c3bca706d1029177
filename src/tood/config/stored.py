"""Reading the configurations that finished results keep, also those of earlier versions."""

from collections.abc import Mapping
from typing import Any

from tood.config.messages import validate, validate_written
from tood.config.parts import STORED
from tood.config.study import RunConfig
from tood.io.errors import UserError

_RENAMED = {"backbone": {"trunk_width": "first_stage_width"}}
"""Renamed fields by block: earlier name to current name."""


def with_current_names(value: Any) -> Any:
    """A stored configuration with the names that its fields have now."""
    if not isinstance(value, Mapping):
        return value
    renamed = {
        block: {names.get(key, key): item for key, item in value[block].items()}
        for block, names in _RENAMED.items()
        if isinstance(value.get(block), Mapping)
    }
    return {**value, **renamed}


def stored_run(value: Any, where: str, remedy: str = "train the run again") -> RunConfig:
    """A run's stored configuration; fields that were added since then have their defaults.

    Assigners and criteria whose class is gone keep their stored options. Raises UserError, with ``remedy``, if it is
    not the configuration of a run.
    """
    current = with_current_names(value)
    try:
        found: RunConfig = validate(RunConfig, current, where)
    except UserError:
        found = validate_written(RunConfig, current, where, remedy, context=STORED)
    return found
