# What all rules have in common: the study, its runs, and what of them is made again.
import re
from glob import glob
from pathlib import Path

from tood.config.study import load_study
from tood.io.console import start as start_console
from tood.io.errors import UserError
from tood.mlflow_mirror.address import is_mirrored, refuse_wrong_address
from tood.verbs.prepare_data import prepare
from tood.verbs.usable_data import refuse_unusable
from tood.workflow.dvc_pipelines import is_versioned, write_code
from tood.workflow.follower import Follower
from tood.workflow.plan import Plan
from tood.workflow.project_path import refuse_path
from tood.workflow.settings import (
    analysis_files,
    analysis_tables,
    gpus_per_run,
    read_settings,
    selection_options,
    submission_files,
    threads_of_runs,
)
from tood.workflow.snakemake_command import snakemake_command
from tood.workflow.stamps import runs_anyway, stamp_path
from tood.workflow.study_lock import StudyLock

try:
    refuse_path(Path.cwd())
    refuse_path(Path(workflow.basedir))
    SETTINGS = read_settings(config)
    STUDY = load_study(SETTINGS.study, selection=SETTINGS.selection)
    ALONE = StudyLock(STUDY.name)
    # Neither in the jobs that it starts on other machines, nor where nothing is planned.
    if workflow.is_main_process and not (COMMAND := snakemake_command()).only_lint:
        refuse_wrong_address(COMMAND.targets)
        PLAN = Plan(STUDY, SETTINGS)
        if COMMAND.trains:
            PLAN.refuse_loss()
            refuse_unusable(PLAN)
        PLAN.write_stamps()
        if is_versioned():
            write_code()
except UserError as error:
    raise WorkflowError(*error.lines()) from None

RESULTS = f"results/{STUDY.name}"
LOGS = f"results/logs/{STUDY.name}"
FOLLOWER = Follower(STUDY.name, Path(LOGS, "follow.log"))
DATASET = f"data/{STUDY.dataset.name}/dataset.json"
CORES = workflow.resource_settings.cores or 1  # none is given for a report
GPUS = gpus_per_run(SETTINGS, STUDY)
THREADS = threads_of_runs(SETTINGS, STUDY, CORES, GPUS)
BACKBONES = {
    run.backbone.name: f"data/pretrained/{run.backbone.name}.pt"
    for run in STUDY.runs.values()
    if run.backbone.weights == "generated"
}


def stamp(rule, name=""):
    """The input by which a job learns that its results are outdated; all others are inputs for their order alone."""
    shared = rule in ("prepare", "pretrain")
    return stamp_path("" if shared else STUDY.name, rule, name).as_posix()


def starting_weights(run):
    """The pretrained backbone that a run starts from, if it does."""
    name = STUDY.runs[run].backbone.name
    return [BACKBONES[name]] if name in BACKBONES else []


def after(rule, result, *paths):
    """Inputs for their order alone, unless the job runs anyway.

    Behind a job that runs, Snakemake looks at neither stamps nor outputs: inputs that are not ancient have to tell.
    """

    def inputs(wildcards):
        files = [path.format(run=wildcards.run) for path in paths]
        if runs_anyway(
            Path(stamp(rule, wildcards.run)), Path(RESULTS, wildcards.run, result)
        ):
            return files
        return [ancient(file) for file in files]

    return inputs


def in_place(pattern):
    """An output that stays until its successor is complete; Snakemake complains of one that is not there yet."""
    found = glob(pattern.format(run="*", backbone="*"))
    return update(pattern) if found else pattern


def shown(path, caption, part, labels, patterns=()):
    """A result that `snakemake --report` shows below its study; of a folder, the files of the patterns."""
    return report(
        path,
        caption=f"../report/{caption}.rst",
        category=STUDY.name,
        subcategory=part,
        labels=labels,
        patterns=list(patterns),
    )


onstart:
    try:
        ALONE.take()
        start_console()
        from tood.mlflow_mirror.store import warn_if_silent

        warn_if_silent()
        PLAN.upgrade_data(lambda name: prepare(name, mirror=None))
    except UserError as error:
        raise WorkflowError(str(error)) from None
    if SETTINGS.follow and COMMAND.trains and is_mirrored(COMMAND.targets):
        FOLLOWER.start()


onsuccess:
    FOLLOWER.end()


onerror:
    FOLLOWER.end()


wildcard_constraints:
    run="|".join(map(re.escape, STUDY.runs)),
    backbone="|".join(map(re.escape, BACKBONES)) or "none",
