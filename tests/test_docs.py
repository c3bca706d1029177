"""What the pages name is there: pages, sections, files of the repository; and the site has them all."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tood

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
OTHERS = ("README.md", "CHANGELOG.md", "config/README.md", "src/tood/verbs/new_project.md")
PAGES = [*(ROOT / name for name in OTHERS), *DOCS]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
MADE_UP = {"params/datasets/cats.yaml", "params/datasets/mine.yaml", "workflow/dvc/reported/dvc.yaml"}
"""Files that a user or a command writes."""


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    return listed.stdout.splitlines()


FILES = tracked()
FOLDERS = {name.rpartition("/")[0] for name in FILES if "/" in name}
TOP = {name.split("/")[0] for name in FILES if "/" in name} - {"data", "results"}


def prose(page: Path) -> str:
    """A page without its examples."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)


def anchor(heading: str) -> str:
    """A heading's anchor, as GitHub and the site have it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def paths_in(text: str) -> Iterator[str]:
    """Paths in backticks, with each of several endings in braces."""
    for path in re.findall(r"`([\w./\-{},*]+)`", text):
        found = re.fullmatch(r"(.*)\{([\w,]+)\}(.*)", path)
        yield from (f"{found[1]}{part}{found[3]}" for part in found[2].split(",")) if found else [path]


def is_there(path: str) -> bool:
    """Whether files of the repository have the path, or end with it."""
    if path in MADE_UP or "NAME" in path:
        return True
    if "*" in path:
        return any(ROOT.glob(path))
    path = path.rstrip("/")
    return any(f"/{name}".endswith(f"/{path}") for name in FILES) or any(
        f"/{name}/".endswith(f"/{path}/") or f"{name}/".startswith(f"{path}/") for name in FOLDERS
    )


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_pages_and_sections(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, section = target.partition("#")
        file = page.parent / path if path else page
        assert file.is_file(), f"{name}: {target}"
        assert not section or section in map(anchor, headings(file)), f"{name}: {target}"


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_named_are_there(name: str) -> None:
    """Those with a folder of the repository, and code by its name alone."""
    named = set(paths_in(prose(ROOT / name)))
    wanted = {path for path in named if path.split("/")[0] in TOP or re.search(r"\w\.(py|sh|smk)$", path)}
    assert not [path for path in sorted(wanted) if not is_there(path)]


@pytest.mark.parametrize("name", NAMES)
def test_lists_and_tables_begin_after_an_empty_line(name: str) -> None:
    """Else the site takes them for text, unlike GitHub."""
    for block in re.split(r"\n\s*\n", prose(ROOT / name)):
        lines = block.strip("\n").splitlines()
        begins = [re.match(r"[*-] |\d\. |\|", line) is not None for line in lines]
        heads = [place for place, line in enumerate(lines) if line.startswith("#")]
        first = heads[-1] + 1 if heads else 0
        assert not any(begins[first:]) or begins[first] or lines[first].startswith(" "), f"{name}: {block[:200]}"
        assert not (lines and lines[0].startswith("    ") and any(begins)), f"{name}: {block[:200]}"


def test_sections_that_are_named_are_there() -> None:
    """As in: `docs/reliability.md`, What a result depends on."""
    for page in PAGES:
        for file, text in re.findall(r"`(docs/\w+\.md)`, ([A-Z][^`]*)", prose(page)):
            said = " ".join(text.split())
            assert any(said.startswith(heading) for heading in headings(ROOT / file)), f"{page.name}: {file}, {said}"


def test_pages_that_code_and_parameters_name_are_there() -> None:
    texts = [name for name in FILES if re.search(r"\.(py|yaml|yml|smk|toml|cff|sh)$|(^|/)\w+file$", name)]
    for name in texts:
        for page in re.findall(r"docs/\w+\.md", (ROOT / name).read_text(encoding="utf-8")):
            assert page in FILES or name == "tests/test_docs.py", f"{name}: {page}"


def make_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pages", ROOT / "docs/make_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages_of(entry: Any) -> Iterator[str]:
    """The pages below an entry of the site's navigation."""
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for below in entry.values():
            yield from pages_of(below)
    else:
        for one in entry:
            yield from pages_of(one)


def test_the_site_has_every_page_once(tmp_path: Path) -> None:
    make_pages().make_pages(tmp_path / "pages")
    made = {file.name for file in (tmp_path / "pages").glob("*.md")}
    listed = list(pages_of(tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]))
    assert sorted(listed) == sorted(made) == sorted({*(page.name for page in DOCS), "api.md", "changes.md"})


def test_pages_that_are_named_become_links_except_in_examples() -> None:
    linked = make_pages().linked
    assert linked("see `docs/data.md`.\n") == "see [`docs/data.md`](data.md).\n"
    kept = "[`docs/data.md`](data.md)\n```\ncat `docs/data.md`\n```\n`docs/comparison.png`\n"
    assert linked(kept) == kept


def test_the_reference_has_every_public_name_with_its_text(tmp_path: Path) -> None:
    make_pages().make_pages(tmp_path / "pages")
    sections = (tmp_path / "pages/api.md").read_text(encoding="utf-8").split("\n## ")
    found = {one.split("\n")[0]: one for one in sections[1:]}
    assert set(found) == set(tood.__all__) - {"__version__"}
    for name, text in found.items():
        doc = getattr(tood, name).__doc__
        assert " ".join(doc.replace("``", "`").split()[:8]) in " ".join(text.split()), name
    assert "LoadedDetector.to(device" in found["LoadedDetector"]
    assert "`boxes: Tensor` – (n, 4) float32 xyxy px of the picture." in found["Found"]


@pytest.mark.long
def test_the_site_is_built_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "zensical.toml", tmp_path / "zensical.toml")
    make_pages().make_pages(tmp_path / "build/docs")
    program = (Path(sys.executable).parent / "zensical", "build", "--config-file", "zensical.toml", "--strict")
    subprocess.run(program, cwd=tmp_path, check=True, capture_output=True)
    site = tmp_path / "build/site"
    for page in site.glob("*.html"):
        for target in re.findall(r'href="?([\w./-]+\.html)', page.read_text(encoding="utf-8")):
            assert (site / target.lstrip("/")).is_file(), f"{page.name}: {target}"
    assert 'href="statistics.html"' in (site / "own_data.html").read_text(encoding="utf-8")
