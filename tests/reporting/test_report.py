"""The report is one file with everything in it."""

import html
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tood.reporting.comparison import Comparison, ComparisonStudy, compare
from tood.reporting.figures import Figure, draw_figures
from tood.reporting.provenance import provenance
from tood.reporting.report import write_report
from tood.reporting.wording import headline


def write(study: ComparisonStudy, folder: Path) -> tuple[Comparison, list[Figure], str]:
    comparison = compare(study, resamples=50)
    figures = draw_figures(comparison, folder / "figures")
    write_report(comparison, figures, folder / "report.html")
    return comparison, figures, (folder / "report.html").read_text("utf-8")


def test_report_holds_conclusion_table_figures_and_configurations(
    make_study: Callable[..., ComparisonStudy], tmp_path: Path
) -> None:
    comparison, figures, page = write(make_study(name="cells@mine"), tmp_path)
    text = html.unescape(page)
    assert headline(comparison) in text
    assert page.count('src="data:image/png;base64,') == len(figures) == 10
    for row in comparison.rows:
        assert f"<td>{row.name}</td>" in page
        assert f"Resolved configuration of {row.name}" in text
    assert "snakemake --cores all --config study=cells dataset=mine" in text
    assert "<td>method.head.convs</td>" in page
    assert "<td>seed</td>" not in page


def test_report_fetches_nothing(make_study: Callable[..., ComparisonStudy], tmp_path: Path) -> None:
    _, _, page = write(make_study(images=6), tmp_path)
    without_pictures = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    assert re.findall(r"""(?:src|href)\s*=|url\(|@import|<script|https?:""", without_pictures) == ["src="] * 10


def test_names_are_escaped(make_study: Callable[..., ComparisonStudy], tmp_path: Path) -> None:
    rows = {"a<b>": ("atss", 0.5)}
    _, _, page = write(make_study(rows=rows, baseline="a<b>", images=6), tmp_path)
    assert "a<b>" not in page
    assert "a&lt;b&gt;" in page


def test_provenance_knows_commit_and_local_changes(tmp_path: Path) -> None:
    outside = provenance("demo", tmp_path)
    assert (outside.commit, outside.changed) == (None, None)
    assert outside.unknown == "the project is not in a git repository"
    assert {"Python", "torch", "pycocotools"} <= set(outside.versions)
    (tmp_path / "a.txt").write_text("one")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "a.txt"], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    clean = provenance("demo", tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", clean.commit or "")
    assert not clean.changed
    (tmp_path / "a.txt").write_text("two")
    assert provenance("demo", tmp_path).changed


def test_provenance_says_why_no_commit_is_known(
    make_study: Callable[..., ComparisonStudy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    assert provenance("demo", root).unknown == "the git repository has no commit"
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert provenance("demo", root).unknown == "the git repository belongs to another user"
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert provenance("demo", root).unknown == "git is not installed"
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\nwhile :; do :; done")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setattr("tood.io.source_commit._PATIENCE", 0.1)
    assert provenance("demo", root).unknown == "git did not answer in time"
    _, _, page = write(make_study(images=6), tmp_path)
    assert "No commit is known: git did not answer in time." in page


@pytest.mark.parametrize(
    ("study", "command"),
    [
        ("paper/table3", "snakemake --cores all --config study=paper/table3"),
        ("demo@mine", "snakemake --cores all --config study=demo dataset=mine"),
    ],
)
def test_command_that_makes_the_study_again(study: str, command: str, tmp_path: Path) -> None:
    assert provenance(study, tmp_path).command == command
