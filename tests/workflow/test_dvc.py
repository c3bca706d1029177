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
from once import BuildOnce
from PIL import Image
from tiny_project import ROOT, Project, copied, keep_only

from tood.config.study import load_study
from tood.workflow.dvc_pipelines import pipeline

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def versioned_template(build_once: BuildOnce, finished_template: Path) -> Path:
    """The finished project under git and DVC, with the pipelines of two studies: DVC reads all of them each time."""

    def build(folder: Path) -> None:
        project = copied(finished_template, folder)
        (folder / "workflow").unlink()
        shutil.copytree(ROOT / "workflow", folder / "workflow", ignore=shutil.ignore_patterns("dvc"))
        keep_only(folder / "params/studies", "demo", "bccd")
        keep_only(folder / "params/datasets", "shapes", "bccd")
        project.git("init", "--quiet")
        project.run("dvc", "init", "--quiet")
        project.run("tood", "dvc")
        project.run("tood", "compare")
        project.commit("Start")

    return build_once("versioned", build)


@pytest.fixture
def versioned(versioned_template: Path, tmp_path: Path) -> Project:
    return copied(versioned_template, tmp_path / "project")


@pytest.fixture(scope="session")
def recorded_template(build_once: BuildOnce, versioned_template: Path) -> Path:
    """The same after ``dvc repro``; what that said is in ``.dvc/tmp/said``."""

    def build(folder: Path) -> None:
        project = copied(versioned_template, folder)
        said = project.run("dvc", "repro")
        (folder / ".dvc/tmp/said").write_text(said)
        project.commit("Record the study")

    return build_once("recorded", build)


@pytest.fixture
def recorded(recorded_template: Path, tmp_path: Path) -> Project:
    return copied(recorded_template, tmp_path / "project")


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


def test_after_snakemake_dvc_finds_nothing_to_train(
    recorded: Project, finished_template: Path, s3_store: str, tmp_path: Path
) -> None:
    said = (recorded.folder / ".dvc/tmp/said").read_text()
    assert "train@tood" in said
    assert "step " not in said, "something was trained again"
    models = [path.relative_to(finished_template) for path in finished_template.rglob("results/*/*/model.pt")]
    assert models
    for model in models:
        assert (recorded.folder / model).read_bytes() == (finished_template / model).read_bytes()
    assert "up to date" in recorded.run("dvc", "repro")
    assert not (recorded.folder / "data/bccd").exists(), "plain dvc repro is the default study's alone"
    metrics = json.loads(recorded.run("dvc", "metrics", "show", "--json"))[""]["data"]
    assert set(metrics) == {f"results/demo/{run}/metrics.json" for run in ("tood", "atss")}
    assert all(content.get("data") for content in metrics.values())
    recorded.run("dvc", "plots", "show", "--out", "plots")
    assert (recorded.folder / "plots/index.html").is_file()

    # What was recorded reaches another clone through an S3-compatible store, and nothing is left to redo there.
    recorded.run("dvc", "remote", "add", "--default", "store", "s3://studies/tiny")
    recorded.run("dvc", "remote", "modify", "store", "endpointurl", s3_store)
    recorded.commit("Name the remote")
    recorded.run("dvc", "push", **CREDENTIALS)
    other = Project(tmp_path / "other")
    recorded.git("clone", "--quiet", ".", str(other.folder))
    for command in pull_commands():
        other.run(*command, **CREDENTIALS)
    assert (other.folder / "mlflow.db").is_file()
    assert "Nothing to be done" in other.snakemake()
    assert "step " not in other.run("dvc", "repro")
    table = "results/demo/comparison.csv"
    pd.testing.assert_frame_equal(pd.read_csv(other.folder / table), pd.read_csv(recorded.folder / table))


def test_an_experiment_changes_one_parameter_and_retrains_what_depends_on_it(recorded: Project) -> None:
    kept = (recorded.folder / "results/demo/atss/model.pt").read_bytes()
    changed = (recorded.folder / "results/demo/tood/model.pt").read_bytes()
    said = recorded.run("dvc", "exp", "run", "-S", "params/studies/demo.yaml:runs.tood.seed=5")
    assert "tood" in said
    assert (recorded.folder / "results/demo/atss/model.pt").read_bytes() == kept
    assert (recorded.folder / "results/demo/tood/model.pt").read_bytes() != changed
    difference = json.loads(recorded.run("dvc", "metrics", "diff", "--json"))
    assert list(difference) == ["results/demo/tood/metrics.json"]


def test_dvc_sees_what_was_edited_and_nothing_else(recorded: Project) -> None:
    """Comments and places redo nothing; numbers, code and the user's own files do."""
    status = ("dvc", "status", "dvc.yaml", "workflow/dvc/dvc.yaml:shapes")
    assert "up to date" in recorded.run(*status)
    for block in ("studies/demo", "datasets/shapes", "methods/atss", "schedules/demo"):
        path = recorded.folder / f"params/{block}.yaml"
        path.write_text(f"# a comment\n{path.read_text()}")
    recorded.snakemake("-n")
    assert "up to date" in recorded.run(*status)
    code = recorded.folder / "workflow/dvc/code.yaml"
    kept = code.read_text()
    for verb in ("train", "evaluate", "compare"):
        digests = yaml.safe_load(kept)
        code.write_text(yaml.safe_dump({**digests, verb: "0" * 16}))
        said = recorded.run(*status)
        assert f"{verb}@atss:" in said or f"{verb}:" in said
    code.write_text(kept)
    recorded.edit("schedules/demo", lr=0.02)
    assert "train@atss" in recorded.run(*status)


def test_a_changed_label_of_ones_own_is_seen_by_dvc(versioned: Project, tmp_path: Path) -> None:
    root = tmp_path / "own"
    for split, count in (("train", 3), ("val", 1)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (64, 48), (number, 90, len(split))).save(root / "images" / split / f"{split}{number}.png")
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


def _of_run(path: str, run: str) -> str:
    """A path of a stage for each run, by key of the study file's runs or by item of a list."""
    return path.replace("${key}", run).replace("${item}", run)


@pytest.mark.parametrize("study", ["demo", "bccd", "paper/table5", "paper/table6"])
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
            wanted = {_of_run(path, run) for path in body["deps"]}
            for path in (_of_run(next(iter(out)), run) for out in body["outs"]):
                assert inputs[path] == wanted, path
                compared.add(path)
    rest = {path for path in inputs if not path.startswith("data/")} - compared
    assert rest == {f"results/{study}/tracked.json"}
