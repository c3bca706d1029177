"""Licence, citation and versions say the same."""

import re
import tomllib
from pathlib import Path

import yaml

import tood
from tood.workflow.project_files import NAMES
from tood.workflow.settings import SETTINGS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_licence_is_the_same_everywhere() -> None:
    assert PROJECT["license"] == CITATION["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert [author["name"] for author in PROJECT["authors"]] == [CITATION["authors"][0]["name"]] == ["tood developers"]


def test_the_version_is_the_same_everywhere() -> None:
    assert CITATION["version"] == tood.__version__
    assert f"## {tood.__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_reference_has_authors_and_a_year() -> None:
    titles = [one["title"] for one in CITATION["references"]]
    assert len(set(titles)) == len(titles) >= 10
    assert all(one["authors"] and 2000 < one["year"] < 2100 for one in CITATION["references"])


def test_the_image_is_built_from_what_the_package_needs() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert sent == {"constraints.txt", "pyproject.toml", "setup.py", "LICENSE", "README.md", "src", *NAMES}


def test_the_image_has_a_tested_python_and_extras_that_there_are() -> None:
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.replace("\\\n", "").splitlines() if line and not line.startswith("#")]
    assert [line.split()[0] for line in lines] == ["FROM", "RUN", "COPY", "RUN", "ENV"]
    (version,) = re.findall(r"^FROM python:(\d+\.\d+)-slim-\w+$", text, re.MULTILINE)
    assert PROJECT["requires-python"] == f">={version}"
    (extras,) = re.findall(r"/src\[([\w,]+)\]", text)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_every_setting_of_the_workflow_is_explained() -> None:
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert tuple(name for row in rows for name in re.findall(r"`(\w+)`", row)) == SETTINGS


def test_the_catalogue_is_told_what_holds() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    files = [ROOT / "Snakefile", *ROOT.glob("workflow/rules/*.smk")]
    workflow = "".join(path.read_text(encoding="utf-8") for path in files)
    said = {name: f"\n{word}" in workflow for name, word in (("conda", "    conda:"), ("apptainer", "container:"))}
    assert usage["software-stack-deployment"] == {**said, "apptainer+conda": False}
    assert usage["report"] == ("report(" in workflow)
    assert set(re.findall(r"(\w+)=", usage["mandatory-flags"]["flags"])) <= set(SETTINGS)
