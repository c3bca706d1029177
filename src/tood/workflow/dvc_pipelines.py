"""The DVC pipeline of a study: the same Snakemake rules, certified and shared by DVC.

``tood dvc <study> …`` writes it. Stages ask Snakemake for their files, so no command is written twice; their
dependencies are the rules' inputs, so that DVC and Snakemake agree on what is out of date.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tood.config.datasets import ImagesDataset, load_dataset
from tood.config.parts import code_of
from tood.config.study import Study, load_study
from tood.io.errors import UserError
from tood.io.read import read_yaml
from tood.io.write import write_text
from tood.workflow.code_digest import code_files, template_files
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
SHARED = Path("workflow/dvc/dvc.yaml")
_EVALUATION = ("metrics.json", "detections.json", "pr.csv", "samples")
_COMPARISON = ("comparison.csv", "comparison.md", "comparison.tex", "figures", "report.html")


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
    return [*written, SHARED]


def _write(path: Path, header: str, content: dict[str, Any]) -> None:
    write_text(path, header + yaml.safe_dump(content, sort_keys=False, width=110))


def shared_pipeline(params: Path) -> dict[str, Any]:
    """The content of ``workflow/dvc/dvc.yaml``: every data set of use, and every backbone that a study pretrains.

    An output belongs to one stage only, so what studies share has a pipeline of its own.
    """
    stages: dict[str, Any] = {}
    studies = [load_study(name, params) for name in study_names(params)]
    submitted = {study.submission.name: study.name for study in studies if study.submission is not None}
    for file in sorted((params / "datasets").glob("*.yaml")):
        settings = f"study=demo dataset={file.stem}"
        if isinstance(load_dataset(file.stem, params), ImagesDataset):  # nothing to train on
            if file.stem not in submitted:
                continue
            settings = f"study={submitted[file.stem]}"
        stages[file.stem] = _stage(
            "../..",
            f"data/{file.stem}/dataset.json",
            settings,
            deps=code_files("prepare"),
            params=[{f"params/datasets/{file.name}": None}],
            outs=_kept(f"data/{file.stem}"),
        )
    for study in studies:
        for backbone in {run.backbone.name for run in _pretrained(study)} - {name[9:] for name in stages}:
            stages[f"pretrain-{backbone}"] = _stage(
                "../..",
                f"data/pretrained/{backbone}.pt",
                f"study={study.name}",
                deps=code_files("pretrain"),
                params=[{f"params/backbones/{backbone}.yaml": None}],
                outs=_kept(f"data/pretrained/{backbone}.pt"),
            )
    return {"stages": stages}


def study_names(params: Path) -> list[str]:
    """Names of all studies."""
    folder = params / "studies"
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def _stage(up: str, target: str, settings: str, **fields: Any) -> dict[str, Any]:
    words = ['PATH="$PWD/.venv/bin:$PATH" snakemake', target, "--cores all --config", settings]
    return {**({"wdir": up} if up else {}), "cmd": " ".join(word for word in words if word), **fields}


def pipeline(study: Study) -> dict[str, Any]:
    """The content of the study's ``dvc.yaml``."""
    up = "/".join([".."] * (len(pipeline_path(study.name).parts) - 1))
    prefix = f"{up}/" if up else ""
    folder = f"results/{study.name}"
    file = f"params/studies/{study.name}.yaml"
    dataset = f"data/{study.dataset.name}"
    backbones = sorted({f"data/pretrained/{run.backbone.name}.pt" for run in _pretrained(study)})
    run = f"{folder}/${{key}}"

    def stage(target: str, **fields: Any) -> dict[str, Any]:
        return _stage(up, target, f"study={study.name}", **fields)

    methods = sorted({path for one in study.runs.values() for path in code_of(one.method)})
    stages: dict[str, Any] = {}
    blocks = [f"params/datasets/{study.dataset.name}.yaml"]
    blocks += sorted({f"params/methods/{one.method.name}.yaml" for one in study.runs.values()})
    blocks += sorted({f"params/backbones/{one.backbone.name}.yaml" for one in study.runs.values()})
    blocks += sorted({f"params/schedules/{one.schedule.name}.yaml" for one in study.runs.values()})
    shared = [key for key in ("common",) if key in read_yaml(study.file)]
    chosen = [{file: [*shared, "runs.${key}"]}, *({block: None} for block in blocks)]
    stages["train"] = {
        "foreach": "${runs}",
        "do": stage(
            f"{run}/model.pt",
            deps=[f"{dataset}/dataset.json", *backbones, *code_files("train", methods)],
            params=chosen,
            outs=_kept(f"{run}/model.pt", f"{run}/config.yaml", f"{run}/history.csv", f"{run}/train.json"),
        ),
    }
    # DVC complains about every declared metric that is not there yet, so only the default study declares them.
    shown = ["metrics.json"] if study.name == "demo" else []
    stages["evaluate"] = {
        "foreach": "${runs}",
        "do": stage(
            f"{run}/metrics.json",
            deps=[f"{dataset}/dataset.json", f"{run}/model.pt", *code_files("evaluate")],
            params=chosen,
            outs=_kept(*(f"{run}/{name}" for name in _EVALUATION if name not in shown)),
            **({"metrics": _kept(*(f"{run}/{name}" for name in shown))} if shown else {}),
        ),
    }
    if analysis_files(study):
        used = ("model.pt", "train.json", "metrics.json", "detections.json")
        stages["analyse"] = {
            "foreach": "${runs}",
            "do": stage(
                f"{run}/{analysis_files(study)[0]}",
                deps=[f"{dataset}/dataset.json", *(f"{run}/{name}" for name in used), *code_files("analyse")],
                params=chosen,
                outs=_kept(*(f"{run}/{name}" for name in analysis_files(study))),
            ),
        }
    if study.submission is not None:
        wanted = submission_files(study, "${key}")
        images = study.submission.name
        stages["submit"] = {
            "foreach": "${runs}",
            "do": stage(
                f"{run}/{wanted[0]}",
                deps=[
                    f"{dataset}/dataset.json",
                    f"data/{images}/dataset.json",
                    f"{run}/model.pt",
                    *code_files("submit"),
                ],
                params=[*chosen, {f"params/datasets/{images}.yaml": None}],
                outs=_kept(*(f"{run}/{name}" for name in wanted)),
            ),
        }
    files = ("config.yaml", "history.csv", "train.json", "metrics.json", "detections.json", "pr.csv")
    stages["compare"] = stage(
        "compare",  # the rule; not the mirror in MLflow, which is no part of what DVC certifies and may be down
        deps=[
            f"{dataset}/dataset.json",
            *(f"{folder}/{name}/{one}" for name in study.runs for one in (*files, *analysis_files(study))),
            *code_files("compare"),
            *template_files(),
        ],
        params=[{file: None}, *({f"params/published/{name}.yaml": None} for name in _published(study))],
        outs=_kept(*(f"{folder}/{name}" for name in (*_COMPARISON, *analysis_tables(study)))),
    )
    content = {"vars": [f"{prefix}{file}"], "stages": stages}
    if not shown:
        return content
    curves = {f"{prefix}{folder}/{name}/history.csv": "val_AP" for name in study.runs}
    precision = {f"{prefix}{folder}/{name}/pr.csv": "precision" for name in study.runs}
    return {
        **content,
        "plots": [
            {"AP by epoch": {"x": "epoch", "y": curves, "title": "AP on val by epoch"}},
            {
                "Precision by recall": {
                    "x": "recall",
                    "y": precision,
                    "title": "Precision by recall at IoU 0.5",
                }
            },
        ],
    }


def _published(study: Study) -> list[str]:
    """The table of published numbers that the study names, if any."""
    return [study.published.name] if study.published is not None else []


def _kept(*paths: str) -> list[dict[str, dict[str, bool]]]:
    return [{path: {"persist": True}} for path in paths]


def _pretrained(study: Study) -> list[Any]:
    return [run for run in study.runs.values() if run.backbone.weights == "generated"]
