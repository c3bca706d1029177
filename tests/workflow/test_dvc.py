"""DVC certifies what Snakemake made, versions it, and moves it to another clone."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
import yaml
from moto.server import ThreadedMotoServer
from tiny_project import ROOT, Project

from tood.config.study import load_study
from tood.workflow.dvc_pipelines import pipeline

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
METHOD_CODE = re.compile("src/tood/detection/(assigners|criteria)/")


@pytest.fixture
def versioned(finished: Project) -> Project:
    """The finished project under git and DVC, with the pipelines of all studies."""
    for name in ("src", "workflow"):
        (finished.folder / name).unlink()
        unwanted = shutil.ignore_patterns("__pycache__", "dvc")
        shutil.copytree(ROOT / name, finished.folder / name, ignore=unwanted)
    finished.run("tood", "dvc")
    finished.git("init", "--quiet")
    finished.run("dvc", "init", "--quiet")
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
    shown = {path for path, content in metrics.items() if content.get("data")}
    assert shown == {f"results/demo/{run}/metrics.json" for run in ("tood", "atss")}
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


def test_the_stages_depend_on_what_the_rules_take(versioned: Project) -> None:
    """Dependencies of every DVC stage = inputs of the rule behind it, as Snakemake itself lists them."""
    summary = versioned.snakemake("--detailed-summary")
    header, *lines = [line.split("\t") for line in summary.splitlines() if "\t" in line]
    inputs = {line[header.index("output_file")]: set(line[header.index("input-file(s)")].split(",")) for line in lines}
    shared = yaml.safe_load((versioned.folder / "workflow/dvc/dvc.yaml").read_text())["stages"]
    stages = yaml.safe_load((versioned.folder / "dvc.yaml").read_text())["stages"]
    stages |= {name: shared[name] for name in ("shapes", "pretrain-light")}
    assert set(inputs) - hold_against_rules(inputs, stages, ("tood", "atss")) == {"results/demo/tracked.json"}


@pytest.mark.parametrize("study", ["paper/table5", "paper/table6"])
def test_so_do_the_stages_of_submission_and_analysis(fresh: Project, study: str) -> None:
    """The same from Snakemake's plan, before anything has been made."""
    plan = fresh.snakemake("-n", "--quiet", "host", "--config", f"study={study}")
    inputs: dict[str, set[str]] = {}
    for taken, made in re.findall(r"^    input: (.+)\n    output: (.+)$", plan, re.MULTILINE):
        inputs |= {path: set(taken.split(", ")) for path in made.split(", ")}
    composed = load_study(study, fresh.folder / "params")
    stages = pipeline(composed)["stages"]
    rest = set(inputs) - hold_against_rules(inputs, stages, tuple(composed.runs))
    assert {path for path in rest if not path.startswith("data/")} == {f"results/{study}/tracked.json"}
    assert {"train", "evaluate", "compare", "submit" if composed.submission else "analyse"} == set(stages)


def hold_against_rules(inputs: dict[str, set[str]], stages: dict[str, Any], runs: tuple[str, ...]) -> set[str]:
    """Compare the stages' dependencies with the rules' inputs by output; the outputs that were compared.

    A stage is the same for all runs and so depends on the code of all their methods, a rule on that of its run's.
    """
    compared = set()
    for stage in stages.values():
        body, taken = stage.get("do", stage), set()
        for run in runs if "do" in stage else ("",):
            paths = [next(iter(out)) for out in [*body["outs"], *body.get("metrics", [])]]
            outputs = [path.replace("${key}", run) for path in paths]
            outputs = ["data/shapes/dataset.json" if path == "data/shapes" else path for path in outputs]
            wanted = {path.replace("${key}", run) for path in body["deps"]}
            for path in outputs:
                assert inputs[path] <= wanted, path
                assert all(METHOD_CODE.match(name) for name in wanted - inputs[path]), path
                taken |= {name for name in inputs[path] if METHOD_CODE.match(name)}
                compared.add(path)
        assert taken == {name for name in body["deps"] if METHOD_CODE.match(name)}
    return compared
