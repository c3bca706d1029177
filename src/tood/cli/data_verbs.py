"""Commands on data sets and backbones: ``tood init``, ``tood data prepare``, ``tood data check``, ``tood pretrain``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tood.cli.options import LogOption, ThreadsOption
from tood.io.console import open_log, thread_count
from tood.io.errors import UserError


def init(
    name: Annotated[str, typer.Argument(help="The data set's name; its file becomes params/datasets/<name>.yaml.")],
    place: Annotated[
        Path, typer.Argument(help="Folder of the pictures and annotations, or a COCO json or data.yaml in it.")
    ],
    format_: Annotated[
        Literal["coco", "voc", "yolo"] | None, typer.Option("--format", help="Which counts, where there are several.")
    ] = None,
    val: Annotated[
        float | None,
        typer.Option("--val", min=0, max=1, help="Share of pictures drawn for val if it is missing; default 0.2."),
    ] = None,
    test: Annotated[
        float | None, typer.Option("--test", min=0, max=1, help="Share drawn for test; default none.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn.")] = 0,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the pictures, where several fit or they are elsewhere.")
    ] = None,
    annotations: Annotated[
        str | None, typer.Option("--annotations", help="Pattern of the COCO files that count, as 'instances_*.json'.")
    ] = None,
    classes: Annotated[str | None, typer.Option("--classes", help="YOLO's class names by number, as: cat,dog")] = None,
    rows: Annotated[
        Literal["box", "polygon", "pose", "box_and_number"] | None,
        typer.Option("--rows", help="What a row of YOLO's labels holds."),
    ] = None,
    leave_out: Annotated[
        list[str] | None, typer.Option("--leave-out", help="A COCO class that is none; may be given again.")
    ] = None,
    one_by_one: Annotated[
        bool, typer.Option("--one-by-one", help="Draw near-duplicate pictures one by one, to both sides.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    log: LogOption = None,
) -> None:
    """Describe your own pictures: recognise their format, write params/datasets/NAME.yaml, check it.

    \b
    Example:  tood init cats ~/pictures/cats
              tood init cats ~/pictures/cats --format voc --val 0.1
    """
    open_log(log)
    from tood.data.recognise.recognised import Choices
    from tood.verbs.init_data import init as verb

    choices = Choices(
        format=format_,
        val=val,
        test=test,
        seed=seed,
        images=images,
        annotations=annotations,
        classes=tuple(one.strip() for one in (classes or "").split(",") if one.strip()),
        rows=rows,
        leave_out=tuple(leave_out or ()),
        one_by_one=one_by_one,
    )
    if not verb(name, place, choices, force=force):
        raise typer.Exit(UserError.status)


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
    anew: Annotated[
        bool, typer.Option("--anew", help="Also where params/pretrained has weights made with the same settings.")
    ] = False,
    threads: ThreadsOption = 0,
    log: LogOption = None,
) -> None:
    """Pretrain a backbone on generated crops, the embedded stand-in for ImageNet weights.

    Example:  tood pretrain light
    """
    open_log(log)
    from tood.verbs.pretrain_backbone import pretrain as run

    run(backbone, out, thread_count(threads), anew=anew)
