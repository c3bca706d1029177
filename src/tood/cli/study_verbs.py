"""Commands on whole studies: ``tood compare``, ``show``, ``sync`` (MLflow), ``dvc`` (pipelines)."""

import logging
from typing import Annotated

import typer

from tood.cli.options import LogOption, StudyOption, ThreadsOption
from tood.io.console import open_log, thread_count

logger = logging.getLogger(__name__)


def compare(
    study: StudyOption = "demo",
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Seeds of each method; of studies that repeat their runs.")
    ] = None,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Methods, with commas; of studies that repeat their runs.")
    ] = None,
    threads: ThreadsOption = 0,
    log: LogOption = None,
) -> None:
    """Write a study's comparison table, figures and report from its runs' results.

    Example:  tood compare --study demo
    """
    open_log(log)
    from tood.config.study_file import Selection
    from tood.verbs.compare import compare as verb

    chosen = tuple(name.strip() for name in methods.split(",")) if methods else ()
    verb(study, Selection(seeds, chosen), thread_count(threads))


def show(study: StudyOption = "demo") -> None:
    """Print a study's comparison table and where its files are.

    Example:  tood show --study bccd
    """
    from tood.verbs.show import show as verb

    verb(study)


def sync(
    study: Annotated[str | None, typer.Option("--study", help="One study; by default all there are.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="MLflow tracking address.")] = None,
    log: LogOption = None,
) -> None:
    """Mirror results/ into MLflow, exactly, as often as you like.

    Example:  tood sync --to http://tracking.example:5000
    """
    open_log(log)
    from tood.verbs.sync import sync as verb

    verb(study, to)


def dvc(
    studies: Annotated[list[str] | None, typer.Argument(help="Studies of params/studies; by default all.")] = None,
) -> None:
    """Write the DVC pipelines of studies, which reproduce them through the same Snakemake rules.

    Example:  tood dvc bccd   (then: dvc repro workflow/dvc/bccd/dvc.yaml)
    """
    from tood.verbs.folders import PARAMS
    from tood.workflow.dvc_pipelines import study_names, write_pipelines

    for path in write_pipelines(studies or study_names(PARAMS), PARAMS):
        logger.info("written: %s", path)
