"""Commands on whole studies: ``tood compare``, ``plan``, ``show``, ``sync`` and ``register`` (MLflow), ``dvc``."""

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from tood.cli.options import LogOption, RunOption, StudyOption, ThreadsOption
from tood.io.console import open_log, thread_count
from tood.io.errors import UserError, listed

if TYPE_CHECKING:
    from tood.config.study_file import Selection

logger = logging.getLogger(__name__)


ToOption = Annotated[str | None, typer.Option("--to", help="MLflow tracking address.")]
SeedsOption = Annotated[
    int | None, typer.Option("--seeds", min=1, help="Seeds of each method; of studies that repeat their runs.")
]
MethodsOption = Annotated[
    str | None, typer.Option("--methods", help="Methods, with commas; of studies that repeat their runs.")
]


def compare(
    study: StudyOption = "demo",
    seeds: SeedsOption = None,
    methods: MethodsOption = None,
    threads: ThreadsOption = 0,
    log: LogOption = None,
) -> None:
    """Write a study's comparison table, figures and report from its runs' results.

    Example:  tood compare --study demo
    """
    open_log(log)
    from tood.verbs.compare import compare as verb

    verb(study, _selection(seeds, methods), thread_count(threads))


def plan(
    study: Annotated[str | None, typer.Option("--study", help="A finished study, to learn the spreads from.")] = None,
    difference: Annotated[
        float, typer.Option("--difference", min=0.01, max=100, help="What should be seen, points of AP.")
    ] = 1.0,
    power: Annotated[
        float, typer.Option("--power", min=0.5, max=0.999, help="Probability with which it should be clear.")
    ] = 0.8,
    rows: Annotated[
        int | None, typer.Option("--rows", min=2, help="Rows of the table; by default the study's, or 2.")
    ] = None,
    seed_sd: Annotated[
        float | None,
        typer.Option("--seed-sd", min=0, max=50, help="Assumed standard deviation of AP over seeds, points."),
    ] = None,
    images: Annotated[int | None, typer.Option("--images", min=2, help="Without a study: images of the split.")] = None,
    image_sd: Annotated[
        float | None,
        typer.Option(
            "--image-sd", min=0, max=50, help="Without a study: of a difference, over so many images, points."
        ),
    ] = None,
    seeds: SeedsOption = None,
    methods: MethodsOption = None,
    threads: ThreadsOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs; AP as fractions.")] = False,
) -> None:
    """Say how many runs and images a difference needs to be seen.

    Example:  tood plan --study own@mine --difference 0.5
    Example:  tood plan --images 100 --image-sd 1.0 --seed-sd 1.0 --difference 2     (before the first run)
    """
    from tood.verbs.plan_runs import plan_assumed, plan_study

    assumed = {"--images": images, "--image-sd": image_sd}
    if study is not None:
        wrong = [name for name, value in assumed.items() if value is not None]
        if wrong:
            raise UserError(f"{' and '.join(wrong)}: not with --study, whose runs say it.")
        chosen = _selection(seeds, methods)
        plan_study(study, chosen, difference, power, rows, seed_sd, thread_count(threads), as_json)
        return
    missing = [name for name, value in {**assumed, "--seed-sd": seed_sd}.items() if value is None]
    if images is None or image_sd is None or seed_sd is None:
        raise UserError(f"without --study, also give {listed(missing)} (docs/statistics.md has typical values).")
    plan_assumed(images, image_sd, seed_sd, difference, power, rows or 2, as_json)


def _selection(seeds: int | None, methods: str | None) -> "Selection":
    from tood.config.study_file import Selection

    return Selection(seeds, tuple(name.strip() for name in methods.split(",")) if methods else ())


def show(study: StudyOption = "demo") -> None:
    """Print a study's comparison table and where its files are.

    Example:  tood show --study bccd
    """
    from tood.verbs.show import show as verb

    verb(study)


def sync(
    study: Annotated[str | None, typer.Option("--study", help="One study; by default all there are.")] = None,
    to: ToOption = None,
    models: Annotated[
        bool,
        typer.Option("--models/--no-models", envvar="TOOD_MLFLOW_MODELS", help="Log each run's model, up to 200 MB."),
    ] = True,
    follow: Annotated[bool, typer.Option("--follow", help="Go on while a study trains, until interrupted.")] = False,
    log: LogOption = None,
) -> None:
    """Mirror results/ into MLflow, exactly, as often as you like.

    Example:  tood sync --to http://tracking.example:5000
    Example:  tood sync --study bccd --follow
    """
    open_log(log)
    if follow:
        from tood.verbs.follow import follow as follow_verb

        if study is None:
            raise UserError("--follow: say which study, with --study.")
        follow_verb(study, to, models=models)
        return
    from tood.verbs.sync import sync as verb

    verb(study, to, models=models)


def register(
    run: RunOption,
    name: Annotated[str, typer.Option("--name", help="The registered model; made where it is missing.")],
    alias: Annotated[str | None, typer.Option("--alias", help="Points to this version from now on.")] = None,
    to: ToOption = None,
    log: LogOption = None,
) -> None:
    """Put a run's model into MLflow's model registry, for tood.load("models:/name@alias") and mlflow models serve.

    Example:  tood register --run results/bccd/tood --name blood-cells --alias champion
    """
    open_log(log)
    from tood.verbs.register import register as verb

    verb(run, name, alias, to)


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
