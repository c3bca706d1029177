"""Where AP is undefined, wholly or for a class, every command writes all its files and says so, never "nan"."""

import csv
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_project import Project, build_project

from tood.config.parts import code_of
from tood.config.study import Study, load_study
from tood.config.study_file import Selection
from tood.data.prepared import open_prepared
from tood.data.split_table import SplitTable
from tood.detection.detector import build_detector
from tood.io.digests import file_digest
from tood.io.write import write_json, write_yaml
from tood.mlflow_mirror.entries import mirrored_runs, mirrored_study, run_folders
from tood.verbs.analyse import analyse
from tood.verbs.compare import compare
from tood.verbs.evaluate import evaluate
from tood.verbs.prepare_data import prepare
from tood.verbs.show import show
from tood.weights.model_file import save_model
from tood.workflow.code_digest import code_behind

RESULTS = Path("results/demo")
FILES = {
    "comparison.csv",
    "details.csv",
    "comparison.md",
    "comparison.tex",
    "report.html",
    "alignment.csv",
    "alignment.md",
    "figures",
}
"""What Snakemake expects of a comparison."""
NOTHING, ONE_CLASS, CROWDS = "no objects", "objects of one class", "crowds only"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_project(tmp_path_factory.mktemp("undefined") / "project").folder
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Project(folder).edit("backbones/light", weights="none")
        prepare("shapes", None)
        study = load_study("demo")
        for name in study.runs:
            look_trained(study, name)
    return folder


def look_trained(study: Study, name: str) -> None:
    """What a training leaves, of a detector with random weights; its evaluations found no AP."""
    run, folder, prepared = study.runs[name], RESULTS / name, open_prepared(Path("data/shapes"))
    torch.manual_seed(0)
    detector = build_detector(run.method, run.backbone, len(prepared.classes))
    category_ids = SplitTable.of_split(prepared.split("train")).category_ids.tolist()
    folder.mkdir(parents=True)
    digest = save_model(folder / "model.pt", run, prepared.classes, category_ids, detector)
    write_yaml(folder / "config.yaml", run.model_dump(mode="json"))
    (folder / "history.csv").write_text("step,epoch,time,lr,loss\n1,1,1700000000.0,0.1,1.5\n2,2,1700000001.0,0.1,1.2\n")
    code = code_behind("train", code_of(run.method))
    made_of = {"fingerprint": run.fingerprint, "data": prepared.content, "model": digest, "code": code}
    write_json(folder / "train.json", {**made_of, "seconds": 1.0, "epochs": 2, "parameters": 1000, "gflops": 0.1})


@pytest.fixture(params=[NOTHING, ONE_CLASS, pytest.param(CROWDS, marks=pytest.mark.long)])
def kind(request: pytest.FixtureRequest, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Evaluated runs in a project whose val split lacks objects."""
    shutil.copytree(template, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    path = open_prepared(Path("data/shapes")).split("val").annotations
    content = json.loads(path.read_text())
    chosen = content["categories"][0]["id"]
    kept = [one for one in content["annotations"] if request.param != ONE_CLASS or one["category_id"] == chosen]
    kept = kept or [{**content["annotations"][0], "category_id": chosen}]
    content["annotations"] = [] if request.param == NOTHING else kept
    if request.param == CROWDS:
        content["annotations"] = [{**one, "iscrowd": 1} for one in kept]
    path.write_text(json.dumps(content))
    SplitTable.of_json(path).write_flat(path.with_suffix(".npz"))
    entry = json.loads(Path("data/shapes/dataset.json").read_text())
    digests = {"sha256": file_digest(path), "table_sha256": file_digest(path.with_suffix(".npz"))}
    entry["splits"]["val"] |= digests
    write_json(Path("data/shapes/dataset.json"), entry)
    for name in ("tood", "atss"):
        evaluate(RESULTS / name, None, None, "0", 1)
        analyse(RESULTS / name, "0", 1)
    return str(request.param)


def test_every_file_is_written_and_says_what_is_undefined(kind: str, said: list[str]) -> None:
    compare("demo", Selection(), 1)
    assert {path.name for path in RESULTS.iterdir()} >= FILES
    assert (RESULTS / "figures").is_dir()
    texts = {name: (RESULTS / name).read_text() for name in FILES - {"figures"}}
    for name, text in texts.items():
        shown = re.sub(r"data:image/png;base64,[^\"]*", "", text)
        assert not re.search(r"\bnan\b", shown, re.IGNORECASE), name
    table = pd.read_csv(RESULTS / "comparison.csv")
    undefined = kind != ONE_CLASS
    assert table[["AP", "AP50", "AP75", "AP_low", "AP_high", "delta_AP"]].isna().all(axis=None) == undefined
    with (RESULTS / "comparison.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["AP"] == "" for row in rows] == [undefined] * 2
    assert ("No AP is defined" in texts["comparison.md"]) == undefined
    assert ("No AP is defined" in texts["report.html"]) == undefined
    assert not re.search(r"(in|ex)cludes zero", texts["comparison.md"]) or not undefined, "a verdict on nothing"
    assert len(pd.read_csv(RESULTS / "alignment.csv")) == 2
    if undefined:
        assert re.search(r"\| +– \|", texts["comparison.md"])
        assert "& -- &" in texts["comparison.tex"]
    else:
        assert "<td>0</td><td>–</td><td>–</td>" in texts["report.html"], "classes without objects have no AP"
    show("demo")
    assert texts["comparison.md"].splitlines()[0] in "\n".join(said)
    look_at_measurements_and_mirror(undefined=undefined)


def look_at_measurements_and_mirror(*, undefined: bool) -> None:
    metrics = json.loads((RESULTS / "atss/metrics.json").read_text())
    assert (metrics["AP"] is None) == undefined
    assert any(one["AP"] is None for one in metrics["per_class"].values())
    assert any(one["AP"] is not None for one in metrics["per_class"].values()) != undefined
    runs = mirrored_runs("demo", run_folders(RESULTS))
    for run in runs:
        keys = {point.key for point in run.points}
        assert ("AP" in keys) != undefined
        assert {"parameters", "train/loss"} <= keys
    parent = mirrored_study("demo", RESULTS, runs)
    assert {"comparison.csv", "report.html"} <= set(parent.artifact_paths())
    assert ("No AP is defined" in parent.tags["mlflow.note.content"]) == undefined
