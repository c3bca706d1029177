"""docs/adding_a_method.md, followed to the letter: own code from a file of the project reaches the table."""

import re
from pathlib import Path

import pandas as pd
import pytest
from tiny_project import ROOT, Project, planned

from tood.config.study import load_study
from tood.io.errors import UserError
from tood.workflow.dvc_pipelines import pipeline

PAGE = ROOT / "docs/adding_a_method.md"
EXTENSION = "extensions/nearest.py"


def follow(folder: Path) -> list[str]:
    """Write every block of the page that names a file; returns the commands that it gives."""
    text = PAGE.read_text()
    for name, content in re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return re.findall(r"^(snakemake .*)$", text, re.MULTILINE)


@pytest.fixture
def followed(finished: Project) -> Project:
    (command,) = follow(finished.folder)
    assert (finished.folder / EXTENSION).is_file()
    finished.run(*command.replace("--cores all", "--cores 2").split())
    return finished


def test_own_code_reaches_the_table_and_is_an_input_of_its_own_run_alone(
    followed: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.read_csv(followed.folder / "results/mine/comparison.csv").set_index("run")
    assert list(table.index) == ["atss", "nearest"]
    assert (followed.folder / "results/mine/nearest/model.pt").is_file()
    config = (followed.folder / "results/mine/nearest/config.yaml").read_text()
    assert f"kind: {EXTENSION}:Nearest" in config
    plan = ("-n", "--quiet", "host", "--config", "study=mine")
    assert not planned(followed.snakemake(*plan))

    path = followed.folder / EXTENSION
    path.write_text(path.read_text().replace("4 * octaves", "3 * octaves"))
    said = followed.snakemake(*plan)
    assert planned(said)["train"] == 1
    assert "results/mine/nearest/model.pt" in said
    assert not planned(followed.snakemake("-n", "--quiet", "host"))

    monkeypatch.chdir(followed.folder)
    assert EXTENSION in pipeline(load_study("mine"))["stages"]["train"]["do"]["deps"]

    # What was trained is used without the code that trained it; what composes the study needs it.
    path.unlink()
    with pytest.raises(UserError, match=r"but there is no file extensions/nearest\.py"):
        load_study("mine")
    pictures = sorted((followed.folder / "data/shapes/images").rglob("*.png"))[:1]
    followed.run("tood", "predict", "--run", "results/mine/nearest", str(pictures[0]), "--out", "found")
