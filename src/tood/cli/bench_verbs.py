"""Command ``tood bench``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tood.cli.options import GpuOption, LogOption
from tood.io.console import open_log


def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PART]...",
            help="training, inference, assignment, postprocess (all of these by default), groups, export.",
        ),
    ] = None,
    methods: Annotated[str, typer.Option("--methods", help="Files params/methods/<name>.yaml.")] = "tood,atss,gfl",
    against: Annotated[
        str | None, typer.Option("--against", help="A method whose own steps are the yardstick of detectors.")
    ] = None,
    backbone: Annotated[str, typer.Option("--backbone", help="A file params/backbones/<name>.yaml.")] = "r50",
    image: Annotated[
        str | None, typer.Option("--image", help="HEIGHTxWIDTH in pixels; by default what suits the part.")
    ] = None,
    images: Annotated[int | None, typer.Option("--images", min=1, help="Batch size; by default as above.")] = None,
    objects: Annotated[int | None, typer.Option("--objects", min=0, help="Per image; by default as above.")] = None,
    dtype: Annotated[
        Literal["float32", "tf32", "bf16"], typer.Option("--dtype", help="Of detectors; yardsticks keep float32.")
    ] = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the detectors.")] = False,
    contiguous: Annotated[
        bool, typer.Option("--contiguous", help="Detectors with the channels outermost in memory.")
    ] = False,
    gpu: GpuOption = "auto",
    threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0 means torch's default.")] = 0,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Pairs of work and yardstick.")] = 10,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Pairs before that do not count.")] = 2,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Also write everything measured to this file.")] = None,
    sync_check: Annotated[
        bool, typer.Option("--sync-check", help="Only check that training steps never wait for the GPU.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="For groups: a prepared data set, whose pictures are trained on.")
    ] = None,
    schedule: Annotated[str, typer.Option("--schedule", help="For groups: params/schedules/<name>.yaml.")] = "2x",
    group: Annotated[int, typer.Option("--group", min=1, help="For groups: images that are padded together.")] = 2,
    log: LogOption = None,
) -> None:
    """Time training, inference, assignment and post-processing, each beside a yardstick in the same process.

    Example:  tood bench training --methods tood --threads 2 --json speed.json
    """
    open_log(log)
    from tood.verbs.bench import Request
    from tood.verbs.bench import bench as verb

    request = Request(
        parts=parts or [],
        methods=methods,
        against=against,
        backbone=backbone,
        image=image,
        images=images,
        objects=objects,
        dtype=dtype,
        compiled=compiled,
        contiguous=contiguous,
        threads=threads,
        repeats=repeats,
        warmup=warmup,
        seed=seed,
        sync_check=sync_check,
        dataset=dataset,
        drawn_schedule=schedule,
        group=group,
    )
    verb(request, gpu, json)
