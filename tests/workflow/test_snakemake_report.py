"""``snakemake --report``: the results of a study in one file, below its name."""

import json
import re
from pathlib import Path

import pytest
from test_project_path import HOSTILE
from tiny_project import ROOT, Project, copied

CAPTIONS = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "workflow/report").glob("*.rst")}


def variable(page: str, name: str) -> dict[str, dict[str, list[str]]]:
    found = re.search(rf"var {name} = (\{{.*\}});?$", page, re.MULTILINE)
    assert found is not None
    return dict(json.loads(found[1]))


def reported(project: Project) -> str:
    project.run("snakemake", "--report", "packed.html")
    return (project.folder / "packed.html").read_text(encoding="utf-8")


def test_a_report_has_tables_figures_and_runs_with_captions(finished: Project) -> None:
    page = reported(finished)
    shown = variable(page, "categories")["demo"]
    assert set(shown) == {"Comparison", "Figures", "Runs"}
    tables = {"report.html", "comparison.csv", "details.csv", "alignment.csv"}
    assert set(shown["Comparison"]) == {f"results/demo/{name}" for name in tables}
    figures = finished.folder.glob("results/demo/figures/*.png")
    assert set(shown["Figures"]) == {file.relative_to(finished.folder).as_posix() for file in figures}
    for run in ("tood", "atss"):
        pictures = sorted(finished.folder.glob(f"results/demo/{run}/samples/*.png"))
        assert {f"results/demo/{run}/{name}" for name in ("config.yaml", "history.csv")} <= set(shown["Runs"])
        assert {file.relative_to(finished.folder).as_posix() for file in pictures} <= set(shown["Runs"])
        assert f"What {run} detects" in page
    for name in ("workflow", "comparison", "details", "report", "figure", "alignment"):
        assert " ".join(CAPTIONS[name].split()[:5]) in " ".join(page.split()), name


@pytest.mark.long
def test_a_report_is_made_in_a_folder_of_any_name(finished_template: Path, tmp_path: Path) -> None:
    assert "results/demo/report.html" in reported(copied(finished_template, tmp_path / HOSTILE))


def test_every_caption_is_used() -> None:
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
    used = set(re.findall(r'"(\w+)",\n +"(?:Comparison|Figures|Runs)"', rules))
    assert used | {"workflow"} == set(CAPTIONS)
