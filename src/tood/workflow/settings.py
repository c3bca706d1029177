"""Settings of the Snakemake workflow (``--config``), threads of the runs, and files that analyses produce."""

import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tood.config.messages import nearest
from tood.config.scale import is_scale
from tood.config.study import Study
from tood.config.study_file import Selection
from tood.io.errors import UserError
from tood.io.mirror import mirror_folder
from tood.io.shared_constants import MIRROR, WORKFLOW
from tood.training.processes.gpus import even_shares, visible_gpus
from tood.workflow.code_choice import CODE_MINUTES, CodeChoice, read_code_choice

SETTINGS = (
    "study",
    "dataset",
    "scale",
    "seeds",
    "methods",
    "mirror",
    "gpu",
    "threads",
    "accumulate",
    "code",
    "code_minutes",
    "follow",
)
_SEVERAL = re.compile(rf"[\s,;]({'|'.join(SETTINGS)})=")
_SCALING = 0.5
"""A training on t cores is taken to be t ** 0.5 times as fast as on one (1.3 to 1.7 times as measured on 2)."""
_WORDS = {"dataset": "data set", "scale": "scale"}


def analysis_files(study: Study) -> list[str]:
    """Files that the study's analyses write into the folder of each run."""
    return ["alignment.json", "alignment.npz"] if "alignment" in study.analysis else []


def analysis_tables(study: Study) -> list[str]:
    """Tables that the comparison makes of them in the study's folder."""
    return ["alignment.csv", "alignment.md"] if "alignment" in study.analysis else []


def submission_files(study: Study, run: str) -> list[str]:
    """Submission files (a list and its archive) in the run's folder, if the study names images for a server."""
    if study.submission is None:
        return []
    (split,) = study.submission.splits
    return [f"detections_{split}_{run}_results.{suffix}" for suffix in ("json", "zip")]


def enter_environment(mirror: object) -> None:
    """Set the environment of rules: the tools beside this interpreter on PATH, and the mirror of the data.

    The mirror is an environment variable, not a parameter of a rule, since it does not change the files' content.
    Raises UserError if it is no folder.
    """
    tools = str(Path(sys.executable).parent)
    os.environ[WORKFLOW] = str(os.getpid())  # a training ends (saved) when its workflow is gone
    os.environ["PATH"] = os.pathsep.join([tools, os.environ.get("PATH", "")])
    if mirror:
        os.environ[MIRROR] = str(mirror_folder(str(mirror), f"--config mirror={mirror}").absolute())


def study_reference(study: str | None, dataset: str | None, scale: str | None, params: Path = Path("params")) -> str:
    """``<study>``, ``<study>@<dataset>`` or ``<study>@<scale>``; the study is ``demo`` unless given.

    Raises UserError when more than one of the two is named, or one of them is called the other.
    """
    name = study or "demo"
    if sum((dataset is not None, scale is not None, "@" in name)) > 1:
        given = {"study": study, "dataset": dataset, "scale": scale}
        said = " ".join(f"{key}={value}" for key, value in given.items() if value is not None)
        raise UserError(f"--config {said}: names two of data set, scale and what follows the '@'; leave one out.")
    for key, other in (("dataset", dataset), ("scale", scale)):
        if other is not None and is_scale(other, params) != (key == "scale"):
            right = "dataset" if key == "scale" else "scale"
            raise UserError(f"--config {key}={other}: '{other}' is a {_WORDS[right]}; say {right}={other}.")
    other = dataset or scale
    return f"{name}@{other}" if other else name


@dataclass(frozen=True)
class Settings:
    """What ``--config`` may say."""

    study: str
    selection: Selection
    gpus: int
    """GPUs given for each run, or all that the machine shows."""
    gpus_are_given: bool
    threads: int
    """Threads of each training; 0 where they are shared out."""
    accumulate: int
    """Parts in which every training computes the images of a step; 0 takes as many as it needs."""
    code: CodeChoice
    """Whether finished trainings are repeated if only code changed since."""
    follow: bool
    """Whether MLflow has the points of trainings while they run."""


def read_settings(config: Mapping[str, object]) -> Settings:
    """Check every key and value of ``--config``; UserError names the key and the nearest one."""
    for key in config:
        if key not in SETTINGS:
            raise UserError(f"--config {key}={config[key]}: there is no '{key}'{nearest(key, SETTINGS)}")
        if _SEVERAL.search(str(config[key])):
            raise UserError(f"--config '{key}={config[key]}': holds several settings; leave out the quotes and commas.")
    enter_environment(config.get("mirror"))
    gpu = str(config.get("gpu", "auto"))
    if gpu != "auto" and not gpu.isdecimal():
        raise UserError(f"--config gpu={gpu}: must be 'auto' or a whole number (0 trains on the CPU).")
    threads = str(config.get("threads", "0"))
    if not threads.isdecimal():
        raise UserError(f"--config threads={threads}: must be a whole number (0 shares the cores out).")
    accumulate = str(config.get("accumulate", "0"))
    if not accumulate.isdecimal():
        raise UserError(f"--config accumulate={accumulate}: must be a whole number (0 takes as many as it needs).")
    study, dataset, scale = (
        str(config[key]) if config.get(key) is not None else None for key in ("study", "dataset", "scale")
    )
    count = visible_gpus() if gpu == "auto" else int(gpu)
    return Settings(
        study_reference(study, dataset, scale),
        _selection(config),
        count,
        gpu != "auto",
        int(threads),
        int(accumulate),
        read_code_choice(
            config.get("code", os.environ.get("TOOD_CODE") or "ask"),
            config.get("code_minutes", os.environ.get("TOOD_CODE_MINUTES") or CODE_MINUTES),
            "--config code" if "code" in config else "TOOD_CODE",
            "--config code_minutes" if "code_minutes" in config else "TOOD_CODE_MINUTES",
        ),
        _follow(config.get("follow", True)),
    )


def _follow(given: object) -> bool:
    answers = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if (said := str(given).lower()) not in answers:
        raise UserError(f"--config follow={given}: must be yes or no.")
    return answers[said]


def _selection(config: Mapping[str, object]) -> Selection:
    """What ``seeds`` and ``methods`` say."""
    seeds, methods = config.get("seeds"), config.get("methods")
    if seeds is not None and (not str(seeds).isdecimal() or int(str(seeds)) < 1):
        raise UserError(f"--config seeds={seeds}: must be a whole number from 1 on.")
    names = tuple(name for name in re.split(r"[\s,]+", str(methods)) if name) if methods is not None else ()
    return Selection(None if seeds is None else int(str(seeds)), names)


def selection_options(selection: Selection) -> list[str]:
    """The same for commands."""
    seeds = [] if selection.seeds is None else ["--seeds", str(selection.seeds)]
    return [*seeds, *(["--methods", ",".join(selection.methods)] if selection.methods else [])]


def gpus_per_run(settings: Settings, study: Study) -> int:
    """GPUs of each training: as given, or as many as there are and the images of a step can be shared out to."""
    if settings.gpus_are_given or not settings.gpus:
        return settings.gpus
    return even_shares(math.gcd(*(run.schedule.batch for run in study.runs.values())), settings.gpus)


def threads_of_runs(settings: Settings, study: Study, cores: int, gpus: int) -> dict[str, int]:
    """Threads of each training, on so many GPUs: as many as let all of them end soonest."""
    names = list(study.runs)
    if settings.threads:
        return dict.fromkeys(names, settings.threads)
    if gpus:
        beside = max(1, min(len(names), visible_gpus() // gpus))
        return dict.fromkeys(names, max(1, cores // beside))
    threads = min(range(1, cores + 1), key=lambda threads: _makespan(len(names), cores, threads))
    left = len(names) % (cores // threads)  # runs of a last round that does not fill the cores
    full = len(names) - left
    return {name: threads if place < full else cores // left for place, name in enumerate(names)}


def _makespan(runs: int, cores: int, threads: int) -> float:
    """Time of so many equal trainings, in trainings on one thread; those of the last round share all cores."""
    rounds, left = divmod(runs, cores // threads)
    return float(rounds * threads**-_SCALING + ((cores // left) ** -_SCALING if left else 0))
