"""Commands on weights: ``tood import`` (checkpoints of other code bases), ``export`` (ONNX), ``info`` (GFLOPs)."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tood.cli.options import LogOption, SomeRunOption, ThreadsOption, WeightsOption
from tood.io.console import open_log, thread_count
from tood.io.errors import UserError


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of MMDetection or the TOOD authors' release.")],
    out: Annotated[Path, typer.Option("--out", help="The model.pt to write.")],
    method: Annotated[
        Literal["atss", "paa", "retinanet", "free_anchor", "pisa"] | None,
        typer.Option("--method", help="Method of the checkpoint, if layer names leave it open."),
    ] = None,
    boxes: Annotated[
        Literal["distance", "delta"] | None, typer.Option("--boxes", help="TOOD anchor-free or anchor-based.")
    ] = None,
    dialect: Annotated[
        Literal["mmdet", "authors"] | None, typer.Option("--dialect", help="Whose layer names; found by default.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option("--classes", help="Text file of class names, one a line, in label order.")
    ] = None,
    resize: Annotated[
        Literal["exact", "opencv"],
        typer.Option("--resize", help="Resize pictures as OpenCV rounds, as in its training (extra 'opencv')."),
    ] = "exact",
    log: LogOption = None,
) -> None:
    """Bring weights trained elsewhere (TOOD, ATSS, PAA, GFL, RetinaNet, FreeAnchor, PISA) into this project's form.

    Example:  tood import tood_r50_fpn_1x_coco.pth --out tood_r50.pt
    """
    open_log(log)
    from tood.verbs.import_weights import import_weights

    import_weights(checkpoint, out, method=method, boxes=boxes, dialect=dialect, classes=classes, resize=resize)


def export(
    run: SomeRunOption = None,
    weights: WeightsOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The .onnx file to write; default beside the weights.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="All boxes with the scores of all classes, before suppression.")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Weights and convolutions in 16 bits, for GPUs.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Convolutions in 8 bits, for CPUs.")] = False,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="With --int8: a folder of pictures; default the run's training pictures."),
    ] = None,
    threads: ThreadsOption = 0,
    log: LogOption = None,
) -> None:
    """Write a detector as an ONNX file: images of any size in, boxes, labels and scores out (docs/export.md).

    \b
    Example:  tood export --run results/demo/tood
              tood export --run results/own@mine/tood-0 --int8
    """
    open_log(log)
    from tood.verbs.export import export_run, export_weights
    from tood.verbs.model_source import model_of

    if (run is None) == (weights is None):
        raise UserError("export: give either --run FOLDER or --weights FILE.")
    if half and int8:
        raise UserError("export: give either --half or --int8.")
    if calibration is not None and not int8:
        raise UserError("--calibration: is for --int8; leave it out.")
    numbers: Literal["float32", "half", "int8"] = "half" if half else "int8" if int8 else "float32"
    if run is not None:
        model_of(run)
        export_run(run, out, raw=raw, numbers=numbers, calibration=calibration, threads=thread_count(threads))
    elif weights is not None:
        export_weights(weights, out, raw=raw, numbers=numbers, calibration=calibration)


def info(
    file: Annotated[Path | None, typer.Argument(help="A model.pt.")] = None,
    run: SomeRunOption = None,
    method: Annotated[str | None, typer.Option("--method", help="A file params/methods/<name>.yaml.")] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", help="A file params/backbones/<name>.yaml.")] = None,
    classes: Annotated[int | None, typer.Option("--classes", min=1, help="Number of classes; default 80.")] = None,
) -> None:
    """Say what a detector consists of: parameters and GFLOPs of its parts.

    Example:  tood info --method tood --backbone r50
    """
    from tood.verbs.info import info_of_file, info_of_method, info_of_run

    if method is not None and backbone is not None and file is None and run is None:
        info_of_method(method, backbone, classes)
    elif run is not None and file is None and method is None and backbone is None:
        info_of_run(run, classes)
    elif file is not None and run is None and method is None and backbone is None and classes is None:
        info_of_file(file)
    else:
        raise UserError("info: give a FILE, or --run FOLDER, or --method NAME and --backbone NAME.")
