"""Reading the configurations that finished results keep, also those of earlier versions."""

from typing import Any

from tood.config.messages import validate, validate_written
from tood.config.parts import STORED
from tood.config.study import RunConfig
from tood.io.errors import UserError


def stored_run(value: Any, where: str, remedy: str = "train the run again") -> RunConfig:
    """A run's stored configuration; fields that were added since then have their defaults.

    Assigners and criteria whose class is gone keep their stored options. Raises UserError, with ``remedy``, if it is
    not the configuration of a run.
    """
    try:
        found: RunConfig = validate(RunConfig, value, where)
    except UserError:
        found = validate_written(RunConfig, value, where, remedy, context=STORED)
    return found
