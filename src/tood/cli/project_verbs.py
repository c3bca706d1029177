"""Command ``tood new``."""

from pathlib import Path
from typing import Annotated

import typer

from tood.cli.options import LogOption
from tood.io.console import open_log


def new(
    folder: Annotated[Path, typer.Argument(help="The project's folder, which must be new or empty.")],
    log: LogOption = None,
) -> None:
    """Make a project outside of a clone: studies and their blocks, rules, profiles, pipelines.

    Example:  tood new flowers
    """
    open_log(log)
    from tood.verbs.new_project import new_project as verb

    verb(folder)
