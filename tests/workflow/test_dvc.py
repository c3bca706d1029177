"""DVC certifies what Snakemake made, versions it, and moves it to another clone."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import requests
import yaml
from moto.server import ThreadedMotoServer
from PIL import Image
from tiny_project import ROOT, Project

from tood.config.study import load_study
from tood.workflow.dvc_pipelines import pipeline

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def versioned(finished: Project) -> Project:
    """The finished project under git and DVC, with the pipelines of all studies."""
    (finished.folder / "workflow").unlink()
    shutil.copytree(ROOT / "workflow", finished.folder / "workflow", ignore=shutil.ignore_patterns("dvc"))
    finished.git("init", "--quiet")
    finished.run("dvc", "init", "--quiet")
    finished.run("tood", "dvc")
    finished.run("tood", "compare")
    finished.git("add", "--all")
    finished.git("commit", "--quiet", "--message", "Start")
    return finished


@pytest.fixture
def s3_store() -> Iterator[str]:
    """Address of a server on the loopback interface with an empty bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    requests.put(f"http://{host}:{port}/studies", timeout=10).raise_for_status()
    yield f"http://{host}:{port}"
    server.stop()


def pull_commands() -> list[list[str]]:
    """What ``make pull`` runs."""
    (recipe,) = re.findall(r"^pull:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return [line.partition("#")[0].split() for line in recipe.splitlines()]


def test_after_snakemake_dvc_finds_nothing_to_train(versioned: Project, s3_store: str, tmp_path: Path) -> None:
    models = {path: path.read_bytes() for path in (versioned.folder / "results").rglob("model.pt")}
    said = versioned.run("dvc", "repro")
    assert "step " not in said, "something was trained again"
    assert {path: path.read_bytes() for path in models} == models
    assert "up to date" in versioned.run("dvc", "repro")
    assert not (versioned.folder / "data/bccd").exists(), "plain dvc repro is the default study's alone"
    metrics = json.loads(versioned.run("dvc", "metrics", "show", "--json"))[""]["data"]
    assert set(metrics) == {f"results/demo/{run}/metrics.json" for run in ("tood", "atss")}
    assert all(content.get("data") for content in metrics.values())
    versioned.run("dvc", "plots", "show", "--out", "plots")
    assert (versioned.folder / "plots/index.html").is_file()

    # What was recorded reaches another clone through an S3-compatible store, and nothing is left to redo there.
    versioned.run("dvc", "remote", "add", "--default", "store", "s3://studies/tiny")
    versioned.run("dvc", "remote", "modify", "store", "endpointurl", s3_store)
    versioned.git("add", "--all")
    versioned.git("commit", "--quiet", "--message", "Record the study")
    versioned.run("dvc", "push", **CREDENTIALS)
    other = Project(tmp_path / "other")
    versioned.git("clone", "--quiet", ".", str(other.folder))
    for command in pull_commands():
        other.run(*command, **CREDENTIALS)
    assert (other.folder / "mlflow.db").is_file()
    assert "Nothing to be done" in other.snakemake()
    assert "step " not in other.run("dvc", "repro")
    table = "results/demo/comparison.csv"
    pd.testing.assert_frame_equal(pd.read_csv(other.folder / table), pd.read_csv(versioned.folder / table))


def test_an_experiment_changes_one_parameter_and_retrains_what_depends_on_it(versioned: Project) -> None:
    versioned.run("dvc", "repro")
    versioned.git("add", "--all")
    versioned.git("commit", "--quiet", "--message", "Record the study")
    kept = (versioned.folder / "results/demo/atss/model.pt").read_bytes()
    changed = (versioned.folder / "results/demo/tood/model.pt").read_bytes()
    said = versioned.run("dvc", "exp", "run", "-S", "params/studies/demo.yaml:runs.tood.seed=5")
    assert "tood" in said
    assert (versioned.folder / "results/demo/atss/model.pt").read_bytes() == kept
    assert (versioned.folder / "results/demo/tood/model.pt").read_bytes() != changed
    difference = json.loads(versioned.run("dvc", "metrics", "diff", "--json"))
    assert list(difference) == ["results/demo/tood/metrics.json"]


def test_dvc_sees_what_was_edited_and_nothing_else(versioned: Project) -> None:
    """Comments and places redo nothing; numbers, code and the user's own files do."""
    versioned.run("dvc", "repro")
    status = ("dvc", "status", "dvc.yaml", "workflow/dvc/dvc.yaml:shapes")
    assert "up to date" in versioned.run(*status)
    for block in ("studies/demo", "datasets/shapes", "methods/atss", "schedules/demo"):
        path = versioned.folder / f"params/{block}.yaml"
        path.write_text(f"# a comment\n{path.read_text()}")
    versioned.snakemake("-n")
    assert "up to date" in versioned.run(*status)
    code = versioned.folder / "workflow/dvc/code.yaml"
    kept = code.read_text()
    for verb in ("train", "evaluate", "compare"):
        digests = yaml.safe_load(kept)
        code.write_text(yaml.safe_dump({**digests, verb: "0" * 16}))
        said = versioned.run(*status)
        assert f"{verb}@atss:" in said or f"{verb}:" in said
    code.write_text(kept)
    versioned.edit("schedules/demo", lr=0.02)
    assert "train@atss" in versioned.run(*status)


def test_a_changed_label_of_ones_own_is_seen_by_dvc(versioned: Project, tmp_path: Path) -> None:
    root = tmp_path / "own"
    for split, count in (("train", 3), ("val", 1)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (64, 48), (number, 90, 0)).save(root / "images" / split / f"{split}{number}.png")
            (root / "labels" / split / f"{split}{number}.txt").write_text("0 0.5 0.5 0.4 0.5\n")
    content = {"format": "yolo", "root": str(root), "splits": {"train": "images/train", "val": "images/val"}}
    (versioned.folder / "params/datasets/mine.yaml").write_text(yaml.safe_dump({**content, "classes": ["cat", "dog"]}))
    versioned.run("tood", "dvc")
    stage = "workflow/dvc/dvc.yaml:mine"
    versioned.run("dvc", "repro", stage)
    assert "up to date" in versioned.run("dvc", "status", stage)
    (root / "labels/train/train1.txt").write_text("1 0.5 0.5 0.4 0.5\n")
    assert "own" in versioned.run("dvc", "status", stage)
    assert "train1.txt: has changed since data/mine was prepared" in versioned.run("dvc", "repro", stage)
    assert "up to date" in versioned.run("dvc", "status", stage)


@pytest.mark.parametrize("study", ["demo", "paper/table5", "paper/table6"])
def test_stages_make_what_rules_make_of_what_they_take(fresh: Project, study: str) -> None:
    """Outputs and dependencies of every stage are those of the rule behind it, as Snakemake plans it, but stamps."""
    plan = fresh.snakemake("-n", "--quiet", "host", "--config", f"study={study}")
    inputs: dict[str, set[str]] = {}
    for taken, made in re.findall(r"^    input: (.+)\n    output: (.+)$", plan, re.MULTILINE):
        taken_files = {path for path in taken.split(", ") if not path.startswith(".snakemake/")}
        inputs |= dict.fromkeys(made.split(", "), taken_files)
    composed = load_study(study, fresh.folder / "params")
    compared = set()
    for stage in pipeline(composed)["stages"].values():
        body = stage.get("do", stage)
        for run in composed.runs if "do" in stage else ("",):
            wanted = {path.replace("${key}", run) for path in body["deps"]}
            for path in (next(iter(out)).replace("${key}", run) for out in body["outs"]):
                assert inputs[path] == wanted, path
                compared.add(path)
    rest = {path for path in inputs if not path.startswith("data/")} - compared
    assert rest == {f"results/{study}/tracked.json"}
