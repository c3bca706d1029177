"""Files that say the same thing twice are held against each other."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tood.config.study import load_study
from tood.evaluation.submission import submission_name
from tood.workflow.dvc_pipelines import (
    CODE,
    SHARED,
    code_digests,
    pipeline,
    pipeline_path,
    shared_pipeline,
    study_names,
)
from tood.workflow.settings import study_reference, submission_files

ROOT = Path(__file__).parents[2]
STUDIES = study_names(ROOT / "params")


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!\[; ]", requirement.strip())[0].lower().replace("_", "-")


def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name_of(name): version for name, version in pins}


def test_every_dependency_is_pinned() -> None:
    extras = project()["optional-dependencies"]
    listed = [*project()["dependencies"], *(one for extra in extras.values() for one in extra)]
    assert {name_of(one) for one in listed} <= set(constraints())


def test_developers_have_what_every_extra_has() -> None:
    extras = project()["optional-dependencies"]
    assert all(set(extra) <= set(extras["dev"]) for extra in extras.values())


def test_the_conda_environment_has_the_same_dependencies_and_versions() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    listed = dict(entry.split("==") for entry in pip)
    pins = constraints()
    assert listed == {name_of(one): pins[name_of(one)] for one in project()["dependencies"]}


def test_no_file_names_an_index_or_address_of_packages() -> None:
    for name in ("constraints.txt", "environment.yml", "pyproject.toml"):
        assert not re.search(r"https?://|--index|--find-links|file:", (ROOT / name).read_text())


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_has_an_up_to_date_pipeline(study: str) -> None:
    """``tood dvc <study>`` would write what is committed: runs, commands, dependencies, outputs."""
    written = yaml.safe_load((ROOT / pipeline_path(study)).read_text())
    assert written == pipeline(load_study(study, ROOT / "params"))


def test_what_studies_share_has_an_up_to_date_pipeline() -> None:
    assert yaml.safe_load((ROOT / SHARED).read_text()) == shared_pipeline(ROOT / "params")


def test_the_digests_of_code_are_up_to_date() -> None:
    """Snakemake and ``tood dvc`` would write what is committed."""
    assert yaml.safe_load((ROOT / CODE).read_text()) == code_digests()


def test_pipelines_are_short_and_name_no_source() -> None:
    texts = {name: (ROOT / name).read_text() for name in [*(pipeline_path(study) for study in STUDIES), SHARED]}
    assert not any("src/" in text or ".venv" in text for text in texts.values())
    lines = {name: len(text.splitlines()) for name, text in texts.items()}
    assert lines[pipeline_path("demo")] <= 60
    assert sum(lines.values()) <= 1500


def test_every_command_of_a_pipeline_names_a_study_that_composes() -> None:
    for name in [*(pipeline_path(study) for study in STUDIES), SHARED]:
        for stage in yaml.safe_load((ROOT / name).read_text())["stages"].values():
            words = stage.get("do", stage)["cmd"].partition("--config ")[2].split()
            settings = {key: value for key, _, value in (word.partition("=") for word in words)}
            load_study(
                study_reference(settings["study"], settings.get("dataset"), None, ROOT / "params"), ROOT / "params"
            )


def test_files_for_the_server_are_called_what_it_wants() -> None:
    study = load_study("paper/table5", ROOT / "params")
    assert study.submission is not None
    (split,) = study.submission.splits
    name = submission_name(split, "tood_r101")
    assert submission_files(study, "tood_r101") == [f"{name}.json", f"{name}.zip"]


def test_an_output_belongs_to_one_stage_of_one_pipeline() -> None:
    outputs = []
    for name in [*(pipeline_path(study) for study in STUDIES), SHARED]:
        for stage in yaml.safe_load((ROOT / name).read_text())["stages"].values():
            body = stage.get("do", stage)
            outputs += [path for out in [*body["outs"], *body.get("metrics", [])] for path in out]
    assert len(outputs) == len(set(outputs))


def test_the_runs_of_a_pipeline_are_those_of_its_study() -> None:
    """DVC expands the raw study file; its keys must be the runs that the composed study has."""
    for name in STUDIES:
        raw = yaml.safe_load((ROOT / "params/studies" / f"{name}.yaml").read_text())
        runs = list(load_study(name, ROOT / "params").runs)
        written = yaml.safe_load((ROOT / pipeline_path(name)).read_text())
        for stage in ("train", "evaluate"):
            found = written["stages"][stage]["foreach"]
            assert (list(raw["runs"]) if found == "${runs}" else found) == runs


def test_every_manifest_and_building_block_is_used() -> None:
    manifests = {path.name for path in (ROOT / "params/datasets").glob("*.csv")}
    named = {
        source["manifest"]
        for path in (ROOT / "params/datasets").glob("*.yaml")
        if (source := yaml.safe_load(path.read_text()).get("source")) and "manifest" in source
    }
    assert manifests == named
