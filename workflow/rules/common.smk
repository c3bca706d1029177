# What every rule shares: the study, its runs, and the code behind each verb.
import re
from pathlib import Path

from tood.config.study import load_study
from tood.errors import UserError
from tood.planning import (
    as_text,
    code_files,
    enter_environment,
    gpus_per_run,
    study_reference,
    template_files,
)

try:
    enter_environment(config.get("mirror"))
    STUDY = load_study(study_reference(config.get("study"), config.get("dataset")))
    GPU = gpus_per_run(config.get("gpu", "auto"))
except UserError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"results/{STUDY.name}"
LOGS = f"results/logs/{STUDY.name}"
DATASET = f"data/{STUDY.dataset.name}/dataset.json"
# Runs side by side, one core each, are the fastest use of few cores; more cores are shared out.
THREADS = int(config.get("threads", 0)) or max(
    1, (workflow.cores or 1) // len(STUDY.runs)
)
TRUNKS = {
    run.backbone.name: f"data/pretrained/{run.backbone.name}.pt"
    for run in STUDY.runs.values()
    if run.backbone.weights == "generated"
}


wildcard_constraints:
    run="|".join(map(re.escape, STUDY.runs)),
    backbone="|".join(map(re.escape, TRUNKS)) or "none",
