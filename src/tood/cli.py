"""The command line: each verb is a thin wrapper of the file of its name in ``tood/verbs`` (dvc: reproduction)."""

import os
import sys
import time
import traceback
from pathlib import Path
from typing import Annotated, Literal

import typer

from tood import __version__
from tood.errors import UserError

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

app = typer.Typer(
    help=_INTRO,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 110},
)
data_app = typer.Typer(help="Make and check data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data", rich_help_panel="Data")

RunOption = Annotated[Path, typer.Option("--run", help="The run's folder, results/<study>/<run>.")]
SomeRunOption = Annotated[Path | None, typer.Option("--run", help="A run's folder, results/<study>/<run>.")]
WeightsOption = Annotated[Path | None, typer.Option("--weights", help="A model.pt, for instance an imported one.")]
StudyOption = Annotated[str, typer.Option("--study", help="A study, as <study> or <study>@<data set or scale>.")]
GpuOption = Annotated[str, typer.Option("--gpu", help="'auto' (all there are), a number, or 0 for the CPU.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0 means all.")]
LogOption = Annotated[Path | None, typer.Option("--log", help="Also write what is said to this file.")]

_INTERRUPTED = "interrupted; repeat the command to continue."
_log_file: Path | None = None


def echo(line: str) -> None:
    """Say a line on the console at once, and in the log file if there is one."""
    print(line, flush=True)
    _note(line)


def _note(text: str) -> None:
    if _log_file is not None:
        with _log_file.open("a", encoding="utf-8") as handle:
            handle.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def _start_log(path: Path | None) -> None:
    global _log_file
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.environ.get("RANK", "0") == "0" and "TORCHELASTIC_RUN_ID" not in os.environ:
            path.write_text("", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--log {path}: cannot be written: {error.strerror}.") from error
    _log_file = path


def _thread_count(threads: int) -> int:
    return threads or len(os.sched_getaffinity(0))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    del debug  # read from the arguments in main(), so that it works anywhere on the line
    if version:
        print(__version__)
        raise typer.Exit


@data_app.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help="A file params/datasets/<name>.yaml.")],
    mirror: Annotated[
        Path | None, typer.Option("--mirror", help="Folder that replaces the download (also TOOD_MIRROR).")
    ] = None,
    log: LogOption = None,
) -> None:
    """Download or generate a data set, verify it, bring it into one layout.

    Example:  tood data prepare bccd --mirror /mnt/bccd
    """
    _start_log(log)
    from tood.verbs.prepare import prepare

    prepare(name, mirror, echo)


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="A file params/datasets/<name>.yaml.")],
    mirror: Annotated[Path | None, typer.Option("--mirror", help="Folder that replaces the download.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where the picture goes.")] = None,
    log: LogOption = None,
) -> None:
    """Say in plain words what is wrong with a data set, and draw a sheet of samples.

    Example:  tood data check mine
    """
    _start_log(log)
    from tood.verbs.check import check

    if not check(name, mirror, out, echo):
        raise typer.Exit(1)


@app.command(rich_help_panel="Data")
def pretrain(
    backbone: Annotated[str, typer.Argument(help="A file params/backbones/<name>.yaml with weights: generated.")],
    out: Annotated[Path | None, typer.Option("--out", help="Default data/pretrained/<backbone>.pt")] = None,
    threads: ThreadsOption = 0,
    log: LogOption = None,
) -> None:
    """Pretrain a trunk on generated crops, the embedded stand-in for ImageNet weights.

    Example:  tood pretrain light
    """
    _start_log(log)
    from tood.verbs.pretrain import pretrain as run

    run(backbone, out, _thread_count(threads), echo)


@app.command(rich_help_panel="Runs")
def train(
    run: RunOption,
    gpu: GpuOption = "auto",
    processes: Annotated[int, typer.Option("--processes", min=1, help="CPU processes (gloo).")] = 1,
    threads: ThreadsOption = 0,
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, help="Data loading processes each; by default as needed.")
    ] = None,
    accumulate: Annotated[
        int, typer.Option("--accumulate", min=1, help="Parts to compute a step's images in, to save memory.")
    ] = 1,
    log: LogOption = None,
) -> None:
    """Train one run to its end; repeat the command to continue after an interruption.

    Example:  tood train --run results/demo/tood
    """
    _start_log(log)
    from tood.verbs.train import Machine
    from tood.verbs.train import train as verb

    arguments = ["train", "--run", str(run), "--threads", str(threads), "--accumulate", str(accumulate)]
    if workers is not None:
        arguments += ["--workers", str(workers)]
    if log is not None:
        arguments += ["--log", str(log)]
    machine = Machine(
        gpu=gpu, processes=processes, threads=_thread_count(threads), workers=workers, accumulate=accumulate
    )
    verb(run, machine, arguments, echo)


@app.command(rich_help_panel="Runs")
def evaluate(
    run: SomeRunOption = None,
    weights: WeightsOption = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="With --weights: a file params/datasets/<name>.yaml.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Split to evaluate on; default the study's, with --weights val.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the results; default the run's, or beside the weights.")
    ] = None,
    gpu: GpuOption = "auto",
    threads: ThreadsOption = 0,
    log: LogOption = None,
) -> None:
    """Evaluate a run's last checkpoint, or imported weights, with the COCO protocol.

    \b
    Example:  tood evaluate --run results/bccd/tood --split test --out test-results
              tood evaluate --weights tood_r50.pt --dataset coco2017
    """
    _start_log(log)
    from tood.verbs.evaluate import evaluate as verb
    from tood.verbs.evaluate import evaluate_weights

    if run is not None and weights is None and dataset is None:
        verb(run, split, out, gpu, _thread_count(threads), echo)
    elif run is None and weights is not None and dataset is not None:
        evaluate_weights(weights, dataset, split or "val", out, gpu, _thread_count(threads), echo)
    else:
        raise UserError("evaluate: give either --run FOLDER, or --weights FILE and --dataset NAME.")


@app.command("import", rich_help_panel="Weights")
def import_(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of MMDetection or the TOOD authors' release.")],
    out: Annotated[Path, typer.Option("--out", help="The model.pt to write.")],
    boxes: Annotated[
        Literal["distance", "delta"] | None, typer.Option("--boxes", help="TOOD anchor-free or anchor-based.")
    ] = None,
    dialect: Annotated[
        Literal["mmdet", "authors"] | None, typer.Option("--dialect", help="Whose conventions; seen from the names.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option("--classes", help="Text file of class names, one a line, in label order.")
    ] = None,
    log: LogOption = None,
) -> None:
    """Bring weights trained elsewhere (TOOD, ATSS, GFL, RetinaNet) into this project's form.

    Example:  tood import tood_r50_fpn_1x_coco.pth --out tood_r50.pt
    """
    _start_log(log)
    from tood.verbs.import_ import import_weights

    import_weights(checkpoint, out, boxes=boxes, dialect=dialect, classes=classes, echo=echo)


@app.command(rich_help_panel="Weights")
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
        info_of_method(method, backbone, classes, echo)
    elif run is not None and file is None and method is None and backbone is None:
        info_of_run(run, classes, echo)
    elif file is not None and run is None and method is None and backbone is None and classes is None:
        info_of_file(file, echo)
    else:
        raise UserError("info: give a FILE, or --run FOLDER, or --method NAME and --backbone NAME.")


@app.command(rich_help_panel="Runs")
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
    _start_log(log)
    from tood.verbs.submit import submit_run, submit_weights

    if (run is None) == (weights is None):
        raise UserError("submit: give either --run FOLDER or --weights FILE.")
    if run is not None:
        submit_run(run, dataset, split, out, gpu, _thread_count(threads), echo)
    elif weights is not None:
        submit_weights(weights, dataset, split, out, gpu, _thread_count(threads), echo)


@app.command(rich_help_panel="Runs")
def analyse(
    run: RunOption,
    gpu: GpuOption = "auto",
    threads: ThreadsOption = 0,
    log: LogOption = None,
) -> None:
    """Measure how well an evaluated run's scores and boxes agree, object by object (the paper's Table 6).

    Example:  tood analyse --run results/demo/tood
    """
    _start_log(log)
    from tood.verbs.analyse import analyse as verb

    verb(run, gpu, _thread_count(threads), echo)


@app.command(rich_help_panel="Runs")
def predict(
    run: RunOption,
    images: Annotated[Path, typer.Argument(metavar="IMAGE_OR_FOLDER", help="An image, or a folder of images.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures and detections.json.")],
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.0, max=1.0, help="Lowest score that is drawn.")
    ] = 0.3,
    gpu: GpuOption = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Detect objects in images: pictures with boxes and a COCO-format json.

    Example:  tood predict --run results/demo/tood photos/ --out found/
    """
    from tood.verbs.predict import predict as verb

    verb(run, images, out, threshold, gpu, _thread_count(threads), echo)


@app.command(rich_help_panel="Comparison")
def compare(study: StudyOption = "demo", log: LogOption = None) -> None:
    """Write a study's comparison table, figures and report from its runs' results.

    Example:  tood compare --study demo
    """
    _start_log(log)
    from tood.verbs.compare import compare as verb

    verb(study, echo)


@app.command(rich_help_panel="Comparison")
def show(study: StudyOption = "demo") -> None:
    """Print a study's comparison table and where its files are.

    Example:  tood show --study bccd
    """
    from tood.verbs.show import show as verb

    verb(study, echo)


@app.command(rich_help_panel="Comparison")
def sync(
    study: Annotated[str | None, typer.Option("--study", help="One study; by default all there are.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="MLflow tracking address.")] = None,
    log: LogOption = None,
) -> None:
    """Mirror results/ into MLflow, exactly, as often as you like.

    Example:  tood sync --to http://tracking.example:5000
    """
    _start_log(log)
    from tood.verbs.sync import sync as verb

    verb(study, to, echo)


@app.command(rich_help_panel="Comparison")
def dvc(
    studies: Annotated[list[str] | None, typer.Argument(help="Studies of params/studies; by default all.")] = None,
) -> None:
    """Write the DVC pipelines of studies, which reproduce them through the same Snakemake rules.

    Example:  tood dvc bccd   (then: dvc repro workflow/dvc/bccd/dvc.yaml)
    """
    from tood.reproduction import study_names, write_pipelines
    from tood.verbs.locate import PARAMS

    for path in write_pipelines(studies or study_names(PARAMS), PARAMS):
        echo(f"written: {path}")


@app.command(rich_help_panel="Project")
def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PART]...", help="training, inference, assignment, postprocess; all by default."),
    ] = None,
    methods: Annotated[str, typer.Option("--methods", help="Files params/methods/<name>.yaml.")] = "tood,atss,gfl",
    backbone: Annotated[str, typer.Option("--backbone", help="A file params/backbones/<name>.yaml.")] = "r50",
    image: Annotated[
        str | None, typer.Option("--image", help="HEIGHTxWIDTH in pixels; by default what suits the part.")
    ] = None,
    images: Annotated[int | None, typer.Option("--images", min=1, help="Images at once; by default likewise.")] = None,
    objects: Annotated[int | None, typer.Option("--objects", min=0, help="In each image; by default likewise.")] = None,
    dtype: Annotated[
        Literal["float32", "tf32", "bf16"], typer.Option("--dtype", help="Of whole detectors; yardsticks stay.")
    ] = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the detectors.")] = False,
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Memory format of the detectors.")] = False,
    gpu: GpuOption = "auto",
    threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0 means torch's default.")] = 0,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Pairs of work and yardstick.")] = 10,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Pairs before that do not count.")] = 2,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Also write everything measured to this file.")] = None,
    sync_check: Annotated[
        bool, typer.Option("--sync-check", help="Only prove that training steps never wait for the GPU.")
    ] = False,
    log: LogOption = None,
) -> None:
    """Time training, inference, assignment and post-processing, each beside a yardstick in the same process.

    Example:  tood bench training --methods tood --threads 2 --json speed.json
    """
    _start_log(log)
    from tood.verbs.bench import Request
    from tood.verbs.bench import bench as verb

    request = Request(
        parts=parts or [],
        methods=methods,
        backbone=backbone,
        image=image,
        images=images,
        objects=objects,
        dtype=dtype,
        compiled=compiled,
        channels_last=channels_last,
        threads=threads,
        repeats=repeats,
        warmup=warmup,
        seed=seed,
        sync_check=sync_check,
    )
    verb(request, gpu, json, echo)


def main() -> None:
    """Entry point: one sentence for a user's error, a pointer to the details for ours."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        status = app(args=[item for item in arguments if item != "--debug"], prog_name="tood", standalone_mode=False)
    except UserError as error:
        _fail(str(error), 2, debug)
    except KeyboardInterrupt:
        _fail(_INTERRUPTED, 130, False)
    except Exception as error:
        show = getattr(error, "show", None)  # the parser's own errors: usage and what was wrong with it
        if callable(show):
            show()
            sys.exit(int(getattr(error, "exit_code", 2)))
        if type(error).__name__ == "Abort":
            _fail(_INTERRUPTED, 130, False)
        _note(traceback.format_exc())
        reason = " ".join(str(error).split()) or "no message"
        hint = f"details are in {_log_file}" if _log_file else "repeat with --debug for details"
        _fail(f"unexpected {type(error).__name__}: {reason[:300]} ({hint}).", 1, debug)
    else:
        if status == 130:
            _fail(_INTERRUPTED, 130, False)
        sys.exit(status if isinstance(status, int) else 0)


def _fail(sentence: str, status: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    elif os.environ.get("TOOD_RAISED"):
        Path(os.environ["TOOD_RAISED"]).write_text(sentence, encoding="utf-8")
    else:
        print(f"tood: {sentence}", file=sys.stderr, flush=True)
    _note(f"tood: {sentence}")
    sys.exit(status)


if __name__ == "__main__":
    main()
