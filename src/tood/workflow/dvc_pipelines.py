"""DVC pipelines (``dvc.yaml``) of studies, whose stages call the Snakemake rules.

``tood dvc <study> …`` writes them. Stages ask Snakemake for their files, so no command is written twice. They depend
on the files that the rules take, on the parameters, and on the code behind each rule, by the digests in
``workflow/dvc/code.yaml``, which every run of Snakemake updates.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tood.config.datasets import DatasetConfig, ImagesDataset, ShapesDataset, load_dataset
from tood.config.parts import ASSIGNERS, CRITERIA, code_of
from tood.config.study import Study, load_study
from tood.io.errors import UserError
from tood.io.read import read_yaml
from tood.io.write import write_text
from tood.workflow.code_digest import VERBS, code_behind, combined, package_file
from tood.workflow.settings import analysis_files, analysis_tables, submission_files

_HEADER = """\
# Written by: tood dvc {study}
# Reproduces the study '{study}' through the rules of the Snakefile:  dvc repro{path}
# `persist` keeps outputs in place for Snakemake, which alone decides what has to be computed again.
"""
_SHARED_HEADER = """\
# Written by: tood dvc <any study>
# What studies share: data sets, and backbones pretrained on generated crops. The studies' pipelines depend on it,
# so that `dvc repro` makes what it needs of it.
"""
_CODE_HEADER = """\
# Written by Snakemake and by: tood dvc <any study>
# Digests of what the code behind each rule does; no comment, docstring or message changes them.
"""
_REPORTED_HEADER = """\
# Written by: tood compare
# Metrics and plots of the studies that have results:  dvc metrics show, dvc metrics diff, dvc plots show
"""
SHARED = Path("workflow/dvc/dvc.yaml")
CODE = Path("workflow/dvc/code.yaml")
REPORTED = Path("workflow/dvc/reported/dvc.yaml")
_RUN = ("config.yaml", "history.csv", "train.json")
_EVALUATION = ("metrics.json", "detections.json", "pr.csv", "thresholds.json")
_COMPARISON = ("comparison.csv", "details.csv", "comparison.md", "comparison.tex", "figures", "report.html")


def pipeline_path(study: str) -> Path:
    """Where a study's pipeline lies: the default study's at the root, so that plain ``dvc repro`` runs it."""
    return Path("dvc.yaml") if study == "demo" else Path("workflow/dvc") / study / "dvc.yaml"


def write_pipelines(references: Sequence[str], params: Path) -> list[Path]:
    """Write the ``dvc.yaml`` of each study and the one of all that studies share; returns their paths.

    Raises UserError for a study on another data set than its own, or at a scale.
    """
    for reference in references:
        if "@" in reference:
            raise UserError(
                f"study '{reference}': a pipeline belongs to a study file as it stands; write one of its own for "
                "another data set or smaller blocks."
            )
    written = []
    for study in [load_study(reference, params) for reference in references]:
        path = pipeline_path(study.name)
        named = "" if study.name == "demo" else f" {path.as_posix()}"
        _write(path, _HEADER.format(study=study.name, path=named), pipeline(study))
        written.append(path)
    _write(SHARED, _SHARED_HEADER, shared_pipeline(params))
    write_code()
    return [*written, SHARED, CODE]


def _write(path: Path, header: str, content: dict[str, Any]) -> None:
    dumped = yaml.dump(content, Dumper=_WithoutAnchors, sort_keys=False, width=118, default_flow_style=None)
    write_text(path, header + dumped)


class _WithoutAnchors(yaml.SafeDumper):
    """YAML without anchors and aliases, which is easier to read and edit."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def code_digests() -> dict[str, Any]:
    """The content of ``workflow/dvc/code.yaml``: digests by verb, and of each assigner and criterion shipped."""
    parts = {name.rpartition(":")[0] for name in (*ASSIGNERS.values(), *CRITERIA.values())}
    files = {module: package_file(module) for module in parts}
    return {
        **{verb: combined(code_behind(verb)) for verb in VERBS},
        "parts": {_part_name(file): combined(code_behind("train", [file])) for file in sorted(files.values())},
    }


def write_code() -> None:
    """Bring ``workflow/dvc/code.yaml`` up to date."""
    digests = code_digests()
    if CODE.is_file() and read_yaml(CODE) == digests:
        return
    _write(CODE, _CODE_HEADER, digests)


def is_versioned() -> bool:
    """Whether the project's folder uses DVC."""
    return Path(".dvc").is_dir()


def _part_name(file: Path) -> str:
    return f"{file.parent.name}_{file.stem}"


def shared_pipeline(params: Path) -> dict[str, Any]:
    """The content of ``workflow/dvc/dvc.yaml``: every data set of use, and every backbone that a study pretrains.

    An output belongs to one stage only, so what studies share has a pipeline of its own.
    """
    stages: dict[str, Any] = {}
    studies = [load_study(name, params) for name in study_names(params)]
    submitted = {study.submission.name: study.name for study in studies if study.submission is not None}
    for file in sorted((params / "datasets").glob("*.yaml")):
        settings = f"study=demo dataset={file.stem}"
        config = load_dataset(file.stem, params)
        if isinstance(config, ImagesDataset):  # nothing to train on
            if file.stem not in submitted:
                continue
            settings = f"study={submitted[file.stem]}"
        stages[file.stem] = _stage(
            "../..",
            f"data/{file.stem}/dataset.json",
            settings,
            deps=_own_files(config),
            params=[{f"params/datasets/{file.name}": None}, {CODE.as_posix(): ["prepare"]}],
            outs=_persistent(f"data/{file.stem}"),
        )
    for study in studies:
        for backbone in sorted({run.backbone.name for run in _pretrained(study)} - {name[9:] for name in stages}):
            stages[f"pretrain-{backbone}"] = _stage(
                "../..",
                f"data/pretrained/{backbone}.pt",
                f"study={study.name}",
                params=[{f"params/backbones/{backbone}.yaml": None}, {CODE.as_posix(): ["pretrain"]}],
                outs=_persistent(f"data/pretrained/{backbone}.pt"),
            )
    return {"stages": stages}


def _own_files(config: DatasetConfig) -> list[str]:
    """The folder of the user's own files, whose content DVC watches."""
    root = None if isinstance(config, ShapesDataset) else config.root
    return [] if root is None else [Path(root).expanduser().as_posix()]


def study_names(params: Path) -> list[str]:
    """Names of all studies that name a data set, and so have a pipeline."""
    folder = params / "studies"
    named = [path for path in folder.rglob("*.yaml") if _names_data(path)]
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in named)


def _names_data(path: Path) -> bool:
    content = read_yaml(path)
    return not isinstance(content, dict) or "dataset" in content  # what is wrong with the file is said where it is read


def _stage(up: str, target: str, settings: str, **fields: Any) -> dict[str, Any]:
    command = f"snakemake {target} --cores all --config {settings}"
    return {**({"wdir": up} if up else {}), "cmd": command, **{name: one for name, one in fields.items() if one}}


def pipeline(study: Study) -> dict[str, Any]:
    """The content of the study's ``dvc.yaml``."""
    up = "/".join([".."] * (len(pipeline_path(study.name).parts) - 1))
    folder, file = f"results/{study.name}", f"params/studies/{study.name}.yaml"
    dataset = f"data/{study.dataset.name}/dataset.json"
    backbones = sorted({f"data/pretrained/{run.backbone.name}.pt" for run in _pretrained(study)})
    written = read_yaml(study.file)
    repeated = written.get("seeds") is not None  # its runs are not those that the file names
    name = "${item}" if repeated else "${key}"
    run = f"{folder}/{name}"
    shared = [key for key in ("common", "seeds") if key in written]
    chosen = [{file: [*shared, "runs" if repeated else "runs.${key}"]}, dict.fromkeys(_blocks(study))]
    own, parts = _code_parts(study)

    def stage(target: str, verb: str, wanted: Sequence[str], **fields: Any) -> dict[str, Any]:
        code = {CODE.as_posix(): [verb, *(parts if verb == "train" else [])]}
        params = [*chosen, *fields.pop("params", []), code]
        made = {"deps": fields.pop("deps"), "params": params, "outs": _persistent(*wanted)}
        runs: str | list[str] = list(study.runs) if repeated else "${runs}"
        return {"foreach": runs, "do": _stage(up, target, f"study={study.name}", **made)}

    stages: dict[str, Any] = {
        "train": stage(
            f"{run}/model.pt",
            "train",
            [f"{run}/{name}" for name in ("model.pt", *_RUN)],
            deps=[dataset, *backbones, *own],
        ),
        "evaluate": stage(
            f"{run}/metrics.json",
            "evaluate",
            [f"{run}/{name}" for name in (*_EVALUATION, "samples")],
            deps=[dataset, f"{run}/model.pt"],
        ),
    }
    if analysis_files(study):
        used = ("model.pt", "train.json", "metrics.json", "detections.json")
        stages["analyse"] = stage(
            f"{run}/{analysis_files(study)[0]}",
            "analyse",
            [f"{run}/{name}" for name in analysis_files(study)],
            deps=[dataset, *(f"{run}/{name}" for name in used)],
        )
    if study.submission is not None:
        wanted, images = submission_files(study, name), study.submission.name
        stages["submit"] = stage(
            f"{run}/{wanted[0]}",
            "submit",
            [f"{run}/{name}" for name in wanted],
            deps=[dataset, f"data/{images}/dataset.json", f"{run}/model.pt"],
            params=[{f"params/datasets/{images}.yaml": None}],
        )
    files = (*_RUN, *_EVALUATION, *analysis_files(study))
    stages["compare"] = _stage(
        up,
        "compare",  # the rule; not the mirror in MLflow, which is no part of what DVC certifies and may be down
        f"study={study.name}",
        deps=[dataset, *(f"{folder}/{name}/{one}" for name in study.runs for one in files)],
        params=[
            {file: None},
            *({f"params/published/{name}.yaml": None} for name in _published(study)),
            {CODE.as_posix(): ["compare"]},
        ],
        outs=_persistent(*(f"{folder}/{name}" for name in (*_COMPARISON, *analysis_tables(study)))),
    )
    return {**({} if repeated else {"vars": [f"{up}/{file}" if up else file]}), "stages": stages}


def _blocks(study: Study) -> list[str]:
    """The files of the blocks that the study's runs are put together from."""
    runs = study.runs.values()
    names = {
        "methods": {run.method.name for run in runs},
        "backbones": {run.backbone.name for run in runs},
        "schedules": {run.schedule.name for run in runs},
    }
    blocks = [f"params/{folder}/{name}.yaml" for folder in names for name in sorted(names[folder])]
    return [f"params/datasets/{study.dataset.name}.yaml", *blocks]


def _code_parts(study: Study) -> tuple[list[str], list[str]]:
    """Files of the project among the study's assigners and criteria; keys of ``code.yaml`` for the package's own."""
    files = sorted({path for run in study.runs.values() for path in code_of(run.method)})
    shipped = [file for file in files if file == package_file(f"tood.detection.{file.parent.name}.{file.stem}")]
    own = [file.relative_to(Path.cwd()).as_posix() for file in files if file not in shipped]
    return own, [f"parts.{_part_name(file)}" for file in shipped]


def write_reported(results: Path) -> None:
    """List metrics and plots of every run that is evaluated, in projects that have DVC pipelines."""
    if not is_versioned():
        return
    runs: dict[str, list[str]] = {}
    for file in sorted(results.rglob("metrics.json")):
        if (file.parent / "train.json").is_file():
            runs.setdefault(file.parent.parent.relative_to(results).as_posix(), []).append(file.parent.name)
    up = "/".join([".."] * (len(REPORTED.parts) - 1)) + f"/{results.as_posix()}"
    places = {study: {name: f"{up}/{study}/{name}" for name in names} for study, names in runs.items()}
    plots = [
        {f"{study}: {title}": {"x": x, "y": {f"{place}/{file}": y for place in names.values()}, "title": title}}
        for study, names in places.items()
        for title, file, x, y in (
            ("AP on val by epoch", "history.csv", "epoch", "val_AP"),
            ("Precision by recall at IoU 0.5", "pr.csv", "recall", "precision"),
        )
    ]
    metrics = [f"{place}/metrics.json" for names in places.values() for place in names.values()]
    _write(REPORTED, _REPORTED_HEADER, {"metrics": metrics, "plots": plots})


def _published(study: Study) -> list[str]:
    """The table of published numbers that the study names, if any."""
    return [study.published.name] if study.published is not None else []


def _persistent(*paths: str) -> list[dict[str, dict[str, bool]]]:
    return [{path: {"persist": True}} for path in paths]


def _pretrained(study: Study) -> list[Any]:
    return [run for run in study.runs.values() if run.backbone.weights == "generated"]
