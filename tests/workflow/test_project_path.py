"""The project's folder may have any name that Snakemake can work with; others are refused at the start."""

import os
from pathlib import Path

import pytest
from tiny_project import build_project

from tood.io.errors import UserError
from tood.workflow.project_path import refuse_path

HOSTILE = "-q#4 %s '\"$(x)`y`*[z]\\{run}{a{b} ünï;&|<>~!"


@pytest.mark.parametrize("name", ["{0}", "{n}", "{ run }", "{a,b}", "{0x}", os.fsdecode(b"caf\xe9")])
def test_names_that_snakemake_cannot_work_with_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="rename the folder") as caught:
        refuse_path(tmp_path / name / "project")
    assert len(caught.value.lines()) == 1
    caught.value.lines()[0].encode()


@pytest.mark.parametrize("name", ["project", "{run}", "{}", "{", "}{", "{a b}", "{-}", HOSTILE, "new\nline"])
def test_others_are_not(tmp_path: Path, name: str) -> None:
    refuse_path(tmp_path / name / "project")


def test_snakemake_plans_and_prepares_in_a_folder_of_any_name(tmp_path: Path) -> None:
    project = build_project(tmp_path / HOSTILE)
    assert "prepare_data" in project.snakemake("-n")
    project.snakemake("data/shapes/dataset.json")
    assert (project.folder / "data/shapes/dataset.json").is_file()
    assert "Nothing to be done" in project.snakemake("-n", "data/shapes/dataset.json")


@pytest.mark.long
def test_a_study_runs_to_its_report_in_a_folder_of_any_name(tmp_path: Path) -> None:
    project = build_project(tmp_path / HOSTILE)
    project.snakemake()
    assert (project.folder / "results/demo/report.html").is_file()
    assert "Nothing to be done" in project.snakemake("-n")


def test_a_folder_that_snakemake_would_misread_is_refused_before_anything_starts(tmp_path: Path) -> None:
    project = build_project(tmp_path / "{0}")
    said = project.snakemake(status=1)
    assert f"{project.folder}: Snakemake takes '{{0}}'" in said
    assert "Traceback" not in said
    assert not (project.folder / "results").exists()


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("MLFLOW_TRACKING_URI", "mlruns", "MLFLOW_TRACKING_URI 'mlruns': is the folder mlruns"),
        ("TOOD_CODE", "kep", "TOOD_CODE=kep: must be ask, keep or new; did you mean 'keep'?"),
    ],
)
def test_a_wrong_variable_is_refused_before_anything_starts(
    tmp_path: Path, variable: str, value: str, sentence: str
) -> None:
    project = build_project(tmp_path / "project")
    said = project.snakemake(status=1, **{variable: value})
    assert sentence in said
    assert "Traceback" not in said
    assert not (project.folder / "results").exists()
