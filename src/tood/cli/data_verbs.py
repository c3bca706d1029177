"""Commands on data sets and backbones: ``tood data prepare``, ``tood data check``, ``tood pretrain``."""

from pathlib import Path
from typing import Annotated

import typer

from tood.cli.options import LogOption, ThreadsOption
from tood.io.console import open_log, thread_count
from tood.io.errors import UserError


def prepare(
    name: Annotated[str, typer.Argument(help="A file params/datasets/<name>.yaml.")],
    mirror: Annotated[
        Path | None, typer.Option("--mirror", help="Folder that replaces the download (also TOOD_MIRROR).")
    ] = None,
    log: LogOption = None,
) -> None:
    """Download or generate a data set, verify it, bring it into one layout.

    Example:  tood data prepare bccd --mirror /mnt/bccd
    """
    open_log(log)
    from tood.verbs.prepare_data import prepare as verb

    verb(name, mirror)


def check(
    name: Annotated[str, typer.Argument(help="A file params/datasets/<name>.yaml.")],
    mirror: Annotated[Path | None, typer.Option("--mirror", help="Folder that replaces the download.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The PNG to write.")] = None,
    study: Annotated[
        str | None,
        typer.Option("--study", help="Also say what this study would make of it, at the sizes that it trains at."),
    ] = None,
    log: LogOption = None,
) -> None:
    """Say in plain words what is wrong with a data set, and draw a sheet of samples.

    \b
    Example:  tood data check mine
              tood data check mine --study demo
    """
    open_log(log)
    from tood.verbs.check_data import check as verb

    if not verb(name, mirror, out, study):
        raise typer.Exit(UserError.status)


def pretrain(
    backbone: Annotated[str, typer.Argument(help="A file params/backbones/<name>.yaml with weights: generated.")],
    out: Annotated[Path | None, typer.Option("--out", help="Default data/pretrained/<backbone>.pt")] = None,
    threads: ThreadsOption = 0,
    log: LogOption = None,
) -> None:
    """Pretrain a backbone on generated crops, the embedded stand-in for ImageNet weights.

    Example:  tood pretrain light
    """
    open_log(log)
    from tood.verbs.pretrain_backbone import pretrain as run

    run(backbone, out, thread_count(threads))
