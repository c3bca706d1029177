"""The paper's studies under the real Snakemake: planned in full, run in the small form into folders of their own."""

import json
from typing import Any

import mlflow
import pandas as pd
import pytest
from tiny_project import ROOT, Project, planned

JOBS = {"table3": (4, 1), "table5": (12, 4)}
"""Runs, and backbones that are pretrained at scale."""
STUDIES = sorted(path.stem for path in (ROOT / "params/studies/paper").glob("*.yaml"))


@pytest.mark.parametrize("scale", [(), ("scale=demo",)])
@pytest.mark.parametrize(
    "study", [pytest.param(name, marks=() if name in JOBS else pytest.mark.long) for name in STUDIES]
)
def test_every_study_of_the_paper_can_be_planned(fresh: Project, study: str, scale: tuple[str, ...]) -> None:
    jobs = planned(fresh.snakemake("-n", "--quiet", "host", "--config", f"study=paper/{study}", *scale))
    assert jobs["compare"] == jobs["track"] == jobs["prepare_data"] == 1
    assert jobs["train"] == jobs["evaluate"] >= 2
    if study in JOBS:
        runs, backbones = JOBS[study]
        assert jobs["train"] == runs
        assert jobs.get("pretrain_backbone", 0) == (backbones if scale else 0)


def test_braces_in_a_title_are_text(fresh: Project) -> None:
    """Snakemake would take {5} in a parameter for a wildcard."""
    fresh.edit("studies/demo", title="m in {5, 9} and {run}", description="{x}")
    assert planned(fresh.snakemake("-n", "--quiet", "host"))["compare"] == 1


@pytest.mark.parametrize(
    ("config", "runs", "backbones"),
    [
        (("study=family",), 24, 1),
        (("study=family_bccd",), 24, 1),
    ],
)
def test_every_run_of_a_study_is_planned(fresh: Project, config: tuple[str, ...], runs: int, backbones: int) -> None:
    jobs = planned(fresh.snakemake("-n", "--quiet", "host", "--config", *config))
    assert (jobs["train"], jobs["evaluate"], jobs["compare"], jobs["track"]) == (runs, runs, 1, 1)
    assert jobs["prepare_data"] == 1
    assert jobs.get("pretrain_backbone", 0) == backbones


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (("study=paper/table3", "scale=dem"), "params/scales/dem.yaml; did you mean 'demo'?"),
        (("study=paper/table3", "scale=shapes"), "'shapes' is a data set; say dataset=shapes."),
        (("study=demo", "scale=demo"), "names nothing instead of 'light'"),
    ],
)
def test_a_scale_that_does_not_fit_is_refused(fresh: Project, config: tuple[str, ...], sentence: str) -> None:
    said = fresh.snakemake("-n", "--config", *config, status=1)
    assert sentence in said
    assert "Traceback" not in said


@pytest.mark.long
def test_the_small_form_runs_to_its_report_and_cannot_pass_for_the_full_one(
    fresh: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.edit(
        "studies/paper/table3",
        runs={"atss_anchor_free": {"method": "atss_anchor_free"}, "tood_anchor_based": {"method": "tood_anchor_based"}},
    )
    fresh.snakemake("--config", "study=paper/table3", "scale=demo")
    results = fresh.folder / "results/paper/table3@demo"
    assert not (fresh.folder / "results/paper/table3").exists()
    table = pd.read_csv(results / "comparison.csv")
    assert set(table["run"]) >= {"atss_anchor_free", "tood_anchor_based"}
    trained = json.loads((results / "tood_anchor_based/train.json").read_text())
    assert trained["epochs"] == 2, "the schedule is the small one"
    for name in ("comparison.md", "report.html"):
        assert "at scale demo: generated shapes, half the epochs, light backbone" in (results / name).read_text(), name
    assert "--config study=paper/table3 scale=demo" in (results / "report.html").read_text()
    shown = fresh.run("tood", "show", "--study", "paper/table3@demo")
    assert "at scale demo" in shown

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    client: Any = mlflow.MlflowClient(f"sqlite:///{fresh.folder / 'mlflow.db'}")
    assert {one.name for one in client.search_experiments()} - {"Default"} == {"paper/table3@demo"}
