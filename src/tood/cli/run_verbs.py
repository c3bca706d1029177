"""Commands on one run: ``tood train``, ``replay``, ``evaluate``, ``predict``, ``analyse``, ``explain``, ``submit``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tood.cli.options import ExportOption, GpuOption, LogOption, RunOption, SomeRunOption, ThreadsOption, WeightsOption
from tood.io.console import open_log, thread_count
from tood.io.errors import UserError
from tood.training.processes.stopping import PATIENCE
from tood.workflow.code_choice import CODE_MINUTES, read_code_choice


def train(
    run: RunOption,
    gpu: GpuOption = "auto",
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="CPU processes (gloo) that share threads and images; else chosen."),
    ] = None,
    threads: ThreadsOption = 0,
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, help="Data loading processes each; by default as needed.")
    ] = None,
    accumulate: Annotated[
        int, typer.Option("--accumulate", min=0, help="Parts to compute a step's images in, to save memory; 0: auto.")
    ] = 0,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Machines; run the same command on each.")] = 1,
    rendezvous: Annotated[
        str | None, typer.Option("--rendezvous", help="HOST:PORT of one of the machines, at which they meet.")
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait for a process that does not answer.")
    ] = PATIENCE,
    attempt: Annotated[
        int,
        typer.Option("--attempt", min=1, help="Number of a workflow's attempt; permanent failures are not repeated."),
    ] = 1,
    code: Annotated[
        str,
        typer.Option(
            "--code", envvar="TOOD_CODE", help="If code changed since it was trained: 'ask', 'keep' or 'new'."
        ),
    ] = "ask",
    code_minutes: Annotated[
        float,
        typer.Option("--code-minutes", envvar="TOOD_CODE_MINUTES", min=0, help="Ask only if it took longer than this."),
    ] = CODE_MINUTES,
    log: LogOption = None,
) -> None:
    """Train one run to its end; repeat the command to continue after an interruption.

    \b
    Example:  tood train --run results/demo/tood
              tood train --run results/coco_1x/tood --nodes 2 --rendezvous node1:29400     (on both)
    """
    open_log(log)
    from tood.training.processes.machine import Machine
    from tood.verbs.train import train as verb

    arguments = ["train", "--run", str(run), "--threads", str(threads), "--accumulate", str(accumulate)]
    arguments += ["--timeout", str(timeout)]
    if workers is not None:
        arguments += ["--workers", str(workers)]
    if log is not None:
        arguments += ["--log", str(log)]
    machine = Machine(
        gpu=gpu,
        processes=processes,
        threads=thread_count(threads),
        workers=workers,
        accumulate=accumulate or None,
        nodes=nodes,
        rendezvous=rendezvous,
        patience=timeout,
    )
    verb(run, machine, attempt, read_code_choice(code, code_minutes), arguments)


def replay(run: RunOption, log: LogOption = None) -> None:
    """Compute the step at which a training broke down (its loss not finite) again, as a whole and image by image.

    Example:  tood replay --run results/demo/tood
    """
    open_log(log)
    from tood.verbs.replay import replay as verb

    verb(run)


def evaluate(
    run: SomeRunOption = None,
    weights: WeightsOption = None,
    export: ExportOption = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="With --weights or --export: a file params/datasets/<name>.yaml.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Split to evaluate on; default the study's, with --dataset val.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the results; default the run's, or beside the weights.")
    ] = None,
    gpu: GpuOption = "auto",
    threads: ThreadsOption = 0,
    log: LogOption = None,
) -> None:
    """Evaluate a run's last checkpoint, imported weights or an exported file with the COCO protocol.

    \b
    Example:  tood evaluate --run results/bccd/tood-0 --split val --out test-results
              tood evaluate --weights tood_r50.pt --dataset coco2017
              tood evaluate --export results/bccd/tood-0/model.onnx --dataset bccd --split test
    """
    open_log(log)
    if export is not None:
        from tood.verbs.evaluate_export import evaluate_export

        if run is not None or weights is not None or dataset is None:
            raise UserError("evaluate: with --export FILE give --dataset NAME, and neither --run nor --weights.")
        evaluate_export(export, dataset, split or "val", out, thread_count(threads))
        return
    from tood.verbs.evaluate import evaluate as verb
    from tood.verbs.evaluate import evaluate_weights

    if run is not None and weights is None and dataset is None:
        verb(run, split, out, gpu, thread_count(threads))
    elif run is None and weights is not None and dataset is not None:
        evaluate_weights(weights, dataset, split or "val", out, gpu, thread_count(threads))
    else:
        raise UserError("evaluate: give either --run FOLDER, or --weights FILE or --export FILE and --dataset NAME.")


def predict(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE_OR_FOLDER...", help="Images, videos, folders or patterns in quotes.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures and detections.json.")],
    run: SomeRunOption = None,
    weights: WeightsOption = None,
    export: ExportOption = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            "--threshold",
            help="Lowest score that is drawn: a number, best, precision=0.9 or recall=0.9; best where it is known.",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option("--tile", min=64, help="Side px of tiles to cut the images into; default as it was trained."),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Images of one size to compute together; pays on a GPU.")
    ] = 1,
    labels: Annotated[
        Literal["coco", "yolo", "voc", "label-studio"] | None,
        typer.Option("--labels", help="Also write the drawn boxes as annotations, for a labelling tool to correct."),
    ] = None,
    crops: Annotated[bool, typer.Option("--crops", help="Also cut the drawn boxes out of the images.")] = False,
    gpu: GpuOption = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Detect objects in images and videos: pictures with boxes and a COCO-format json.

    \b
    Example:  tood predict --run results/demo/tood photos/ --out found/
              tood predict --run results/own@mine/tood-0 new/ --out found/ --labels yolo
              tood predict --export model.onnx clip.mp4 'photos/**/*.jpg' --out found/
    """
    from tood.verbs.chosen_threshold import chosen_threshold
    from tood.verbs.model_source import model_of
    from tood.verbs.predict import Request, predict_export
    from tood.verbs.predict import predict as verb
    from tood.verbs.prediction_outputs import Outputs

    if [run, weights, export].count(None) != 2:
        raise UserError("predict: give one of --run FOLDER, --weights FILE and --export FILE.")
    if run is not None:
        weights = model_of(run)
    source = export or weights
    assert source is not None
    shown = None if export is not None and threshold is None else chosen_threshold(threshold, source)
    request = Request(images, out, shown, thread_count(threads), tile, batch, Outputs(labels, crops))
    if export is not None:
        predict_export(export, request)
    else:
        verb(source, request, gpu)


def analyse(
    run: RunOption,
    gpu: GpuOption = "auto",
    threads: ThreadsOption = 0,
    log: LogOption = None,
) -> None:
    """Measure how well an evaluated run's scores and boxes agree, object by object (the paper's Table 6).

    Example:  tood analyse --run results/demo/tood
    """
    open_log(log)
    from tood.verbs.analyse import analyse as verb

    verb(run, gpu, thread_count(threads))


def explain_assignment(
    run: RunOption,
    out: Annotated[Path, typer.Option("--out", help="The picture to write, a PNG.")],
    image: Annotated[str | None, typer.Option("--image", help="A file of the split; default its first.")] = None,
    split: Annotated[str, typer.Option("--split", help="Split that the image is in.")] = "train",
) -> None:
    """Draw which locations a method assigns to the objects of a picture, per level, before and after its training.

    Example:  tood explain assignment --run results/demo/tood --image 000008.png --out assignment.png
    """
    from tood.verbs.explain import explain_assignment as verb

    verb(run, image, split, out)


def submit(
    dataset: Annotated[str, typer.Option("--dataset", help="A file params/datasets/<name>.yaml.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the result list and its archive.")],
    run: SomeRunOption = None,
    weights: WeightsOption = None,
    split: Annotated[str | None, typer.Option("--split", help="Split to detect in; default the only one.")] = None,
    gpu: GpuOption = "auto",
    threads: ThreadsOption = 0,
    log: LogOption = None,
) -> None:
    """Write detections as the COCO evaluation server takes them.

    Example:  tood submit --run results/paper/table5/tood_r101 --dataset coco2017_testdev --out submission
    """
    open_log(log)
    from tood.verbs.submit import submit_run, submit_weights

    if (run is None) == (weights is None):
        raise UserError("submit: give either --run FOLDER or --weights FILE.")
    if run is not None:
        submit_run(run, dataset, split, out, gpu, thread_count(threads))
    elif weights is not None:
        submit_weights(weights, dataset, split, out, gpu, thread_count(threads))
