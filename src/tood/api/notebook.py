"""The verbs of the command line for a program or a notebook: typed arguments in, pandas frames out."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tood.config.study import load_study
from tood.config.study_file import Selection
from tood.evaluation.assignment_view import AssignmentView
from tood.io.console import start, thread_count
from tood.io.errors import UserError
from tood.io.read import read_json
from tood.reporting.curves import read_history
from tood.training.processes.machine import Machine
from tood.verbs.compare import compare as compare_verb
from tood.verbs.evaluate import evaluate as evaluate_verb
from tood.verbs.explain import explain_assignment as explain_verb
from tood.verbs.folders import PARAMS, RESULTS
from tood.verbs.open_run import run_at
from tood.verbs.prepare_data import prepare as prepare_verb
from tood.verbs.train import train as train_verb
from tood.workflow.code_choice import Choice, CodeChoice

Folder = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A run's metrics, as fractions; what COCO leaves undefined is NaN."""

    metrics: "pd.Series[float]"
    """AP, AP50, AP75, APs, APm, APl and COCO's six recalls."""
    per_class: pd.DataFrame
    """A row for each class, columns AP and AP50."""


def prepare(dataset: str, *, mirror: Folder | None = None) -> None:
    """Make the data set of ``params/datasets/<dataset>.yaml`` ready; ``mirror`` is a folder in place of downloads."""
    start()
    prepare_verb(dataset, None if mirror is None else Path(mirror))


def train(
    run: Folder, *, gpu: str = "auto", threads: int = 0, workers: int | None = None, code: Choice = "ask"
) -> pd.DataFrame:
    """Train the run ``results/<study>/<run>`` to its end, or go on from its last checkpoint; returns its history.

    A finished training is left as it is; ``code`` says what to do where code changed since. Progress is printed. Works
    in the project's folder, and in the main thread alone, where it can be interrupted. Raises UserError as the command
    line says it.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UserError("tood.train: must be called in the main thread, where it can be interrupted.")
    start()
    folder = Path(run)
    machine = Machine(gpu=gpu, threads=thread_count(threads), workers=workers)
    arguments = ["train", "--run", str(folder), "--threads", str(threads)]
    if workers is not None:
        arguments += ["--workers", str(workers)]
    train_verb(folder, machine, 1, CodeChoice(code), arguments)
    return read_history(folder / "history.csv", "train the run again")


def evaluate(
    run: Folder, *, split: str | None = None, out: Folder | None = None, gpu: str = "auto", threads: int = 0
) -> Evaluation:
    """Evaluate a trained run on the study's split; on another one into the folder ``out``."""
    start()
    folder, target = Path(run), None if out is None else Path(out)
    evaluate_verb(folder, split, target, gpu, thread_count(threads))
    kept = read_json((target or folder) / "metrics.json")
    numbers = {name: value for name, value in kept.items() if name.startswith(("AP", "AR"))}
    per_class = pd.DataFrame.from_dict(kept["per_class"], orient="index", dtype=float)
    return Evaluation(pd.Series(numbers, dtype=float), per_class)


def compare(study: str, *, seeds: int | None = None, methods: tuple[str, ...] = (), threads: int = 0) -> pd.DataFrame:
    """Compare the evaluated runs of a study: writes its tables, figures and report, returns ``comparison.csv``."""
    start()
    selection = Selection(seeds, methods)
    compare_verb(study, selection, thread_count(threads))
    return pd.read_csv(
        RESULTS / load_study(study, PARAMS, selection=selection).name / "comparison.csv", index_col="run"
    )


def explain(
    run: Folder, image: str | None = None, *, split: str = "train", out: Folder = "assignment.png"
) -> list[AssignmentView]:
    """Which locations a method assigns to a picture's objects, before and after its training; drawn into ``out``."""
    start()
    run_at(Path(run))  # says what is wrong with the folder first
    return explain_verb(Path(run), image, split, Path(out))
