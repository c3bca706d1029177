"""Entry point of the command line: the list of commands, and how errors become messages and exit statuses."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from tood import __version__
from tood.cli import bench_verbs as speed
from tood.cli import data_verbs as data
from tood.cli import project_verbs as project
from tood.cli import run_verbs as runs
from tood.cli import study_verbs as comparison
from tood.cli import weights_verbs as weights
from tood.io.console import log_file, start
from tood.io.errors import TransientError, UserError
from tood.io.escape import escape
from tood.io.interruption import Terminated, interruptions_raised
from tood.io.os_errors import machine_failure
from tood.io.shared_constants import BUG, INTERRUPTED, PASSING, RAISED, USER_ERROR, status_of_signal
from tood.training.processes.stopping import in_worker

log = logging.getLogger(__name__)

_INTRO = """Which one-stage object detector to train on your data, with numbers you can trust.

Studies (params/studies/*.yaml) name a data set and the runs to compare; results go to results/<study>/<run>.
Usually Snakemake runs these verbs for you:  snakemake --cores all --config study=demo

By hand, the same chain is:

\b
  tood data prepare shapes
  tood pretrain light
  tood train    --run results/demo/tood
  tood evaluate --run results/demo/tood
  tood compare  --study demo
  tood sync
"""

_SPINS = "3000"  # turns, a small fraction of a millisecond
_INTERRUPTION = "interrupted; repeat the command to continue."
_TERMINATION = "was asked to stop (SIGTERM); repeat the command to continue."

app = typer.Typer(
    help=_INTRO,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 110},
)
data_app = typer.Typer(help="Make and check data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel="Data")
data_app.command("prepare")(data.prepare)
data_app.command("check")(data.check)
app.command("init", rich_help_panel="Data")(data.init)
app.command("pretrain", rich_help_panel="Data")(data.pretrain)
app.command("train", rich_help_panel="Runs")(runs.train)
app.command("replay", rich_help_panel="Runs")(runs.replay)
app.command("evaluate", rich_help_panel="Runs")(runs.evaluate)
app.command("predict", rich_help_panel="Runs")(runs.predict)
app.command("analyse", rich_help_panel="Runs")(runs.analyse)
explain_app = typer.Typer(help="Look into what a method does.", no_args_is_help=True)
app.add_typer(explain_app, name="explain", rich_help_panel="Runs")
explain_app.command("assignment")(runs.explain_assignment)
app.command("submit", rich_help_panel="Runs")(runs.submit)
app.command("import", rich_help_panel="Weights")(weights.import_)
app.command("export", rich_help_panel="Weights")(weights.export)
app.command("info", rich_help_panel="Weights")(weights.info)
app.command("compare", rich_help_panel="Comparison")(comparison.compare)
app.command("plan", rich_help_panel="Comparison")(comparison.plan)
app.command("show", rich_help_panel="Comparison")(comparison.show)
app.command("sync", rich_help_panel="Comparison")(comparison.sync)
app.command("register", rich_help_panel="Comparison")(comparison.register)
app.command("dvc", rich_help_panel="Comparison")(comparison.dvc)
app.command("new", rich_help_panel="Project")(project.new)
app.command("bench", rich_help_panel="Project")(speed.bench)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    del debug  # read from the arguments in main(), so that it works anywhere on the line
    if version:
        print(__version__)
        raise typer.Exit


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait for each other give up their core soon, unless the user has decided about that.

    By default those of PyTorch (GNU OpenMP) spin for milliseconds, so that two threads beside another computation on
    the same cores take fifteen times as long. Has to be said before PyTorch is imported.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", _SPINS)


def main() -> None:
    """Run the command line: user errors print one sentence each, bugs a pointer to the details; exits with a status."""
    share_cores(os.environ)
    start()
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        if (file := _error_file()) is not None and file.exists():
            sys.exit(UserError.status)  # a process of this training failed permanently; a restart changes nothing
        with interruptions_raised():
            given = [item for item in arguments if item != "--debug"]
            status = app(args=given, prog_name="tood", standalone_mode=False)
    except UserError as error:
        if type(error) is UserError:
            _pass_error_to_launcher(error)
        elif isinstance(error, TransientError):
            _pass_error_to_launcher(error, PASSING)
        _fail(error.lines(), error.status, debug)
    except KeyboardInterrupt:
        _fail([_INTERRUPTION], INTERRUPTED, False)
    except Terminated:
        _fail([_TERMINATION], status_of_signal(signal.SIGTERM), False)
    except Exception as error:
        show = getattr(error, "show", None)  # the parser's own errors: usage and what was wrong with it
        if callable(show):
            show()
            sys.exit(int(getattr(error, "exit_code", USER_ERROR)))
        if type(error).__name__ == "Abort":
            _fail([_INTERRUPTION], INTERRUPTED, False)
        log.debug("%s", traceback.format_exc())
        refused = machine_failure(error)
        if refused is not None:
            _pass_error_to_launcher(UserError(refused))
            _fail(UserError(refused).lines(), UserError.status, debug)
        reason = " ".join(str(error).split()) or "no message"
        hint = f"details are in {log_file()}" if log_file() else "repeat with --debug for details"
        _fail([escape(f"unexpected {type(error).__name__}: {reason[:300]} ({hint}).")], BUG, debug)
    else:
        if status == INTERRUPTED:
            _fail([_INTERRUPTION], INTERRUPTED, False)
        sys.exit(status if isinstance(status, int) else 0)


def _fail(lines: Sequence[str], status: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    for line in lines:
        log.log(logging.DEBUG if debug else logging.ERROR, "tood: %s", line)
    if in_worker():
        # Whatever Python and the libraries do at an ordinary end may wait for processes that wait for this one.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    sys.exit(status)


def _pass_error_to_launcher(error: UserError, suffix: str = "") -> None:
    """Write the error for the launcher of several processes, which reports it; with the suffix if it may pass."""
    if (file := _error_file()) is not None:
        with suppress(OSError):
            file.with_name(file.name + suffix).write_text("\n".join(map(escape, error.sentences)), encoding="utf-8")


def _error_file() -> Path | None:
    """The file in which one of several processes leaves its error; None in a single process."""
    return Path(os.environ[RAISED]) if RAISED in os.environ else None


if __name__ == "__main__":
    main()
