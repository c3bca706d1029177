"""What Snakemake's command line asks for: a Snakefile is not told while it is read."""

import contextlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snakemake.cli import get_argument_parser


@dataclass(frozen=True)
class SnakemakeCommand:
    """The part of the command line that decides what is planned."""

    targets: frozenset[str] = frozenset()
    """Files and rules; none asks for the first rule."""
    only_lint: bool = False
    """Whether the workflow is only read and criticised."""

    @property
    def trains(self) -> bool:
        """Whether the targets may need a training: not if all of them are data."""
        return not self.targets or not all(one.startswith("data/") for one in self.targets)


def snakemake_command(argv: Sequence[str] | None = None) -> SnakemakeCommand:
    """The command that this process runs; the plain one where it is not Snakemake's own command line."""
    name, *arguments = sys.argv if argv is None else argv
    if Path(name).name != "snakemake" and Path(name).parts[-2:] != ("snakemake", "__main__.py"):
        return SnakemakeCommand()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            options, _ = get_argument_parser().parse_known_args(arguments)
    except SystemExit:  # Snakemake itself says what is wrong
        return SnakemakeCommand()
    return SnakemakeCommand(frozenset(map(str, options.targets or ())), options.lint is not None)
