# What every rule shares: the study, its runs, and the code behind each verb.
import re
from pathlib import Path

from tood.workflow.code_digest import code_files, template_files
from tood.config.parts import code_of
from tood.config.study import load_study
from tood.io.errors import UserError
from tood.workflow.settings import (
    analysis_files,
    analysis_tables,
    as_text,
    own_files_digest,
    read_settings,
    submission_files,
    threads_per_run,
)
from tood.workflow.study_lock import WorkflowLock

try:
    SETTINGS = read_settings(config)
    STUDY = load_study(SETTINGS.study)
    ALONE = WorkflowLock(STUDY.name)
except UserError as error:
    raise WorkflowError(*error.lines()) from None

RESULTS = f"results/{STUDY.name}"
LOGS = f"results/logs/{STUDY.name}"
DATASET = f"data/{STUDY.dataset.name}/dataset.json"
CORES = workflow.cores or 1
THREADS = threads_per_run(SETTINGS, CORES, len(STUDY.runs))
BACKBONES = {
    run.backbone.name: f"data/pretrained/{run.backbone.name}.pt"
    for run in STUDY.runs.values()
    if run.backbone.weights == "generated"
}


onstart:
    try:
        ALONE.take()
    except UserError as error:
        raise WorkflowError(str(error)) from None


wildcard_constraints:
    run="|".join(map(re.escape, STUDY.runs)),
    backbone="|".join(map(re.escape, BACKBONES)) or "none",
