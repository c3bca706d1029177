"""Edits that change no number redo nothing, and a changed constant asks first: shown on a finished small study.

    python tests/workflow/edits.py [--every N] [--together N] [--project FOLDER]

Every module of the package (with ``--every N``, each Nth) gets another docstring, other messages and other comments,
one module after the other, in the copy of ``src`` in a project whose study is finished; ``snakemake -n`` and
``dvc status`` must find nothing to do each time. ``--together N`` edits N modules at a time, which takes less long and
shows the same: an edit that redoes something does so whatever else is edited, and is then looked for alone. Then a
constant of ``detection/losses.py`` changes. Prints what was found as two tables; the exit status is 0 if all is as it
should be.
"""

import argparse
import hashlib
import importlib
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

import pandas as pd
from rewording import KINDS, reworded

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tiny_project import ROOT, Project, build_project, keep_only, planned

NOTHING = "nothing"
CLEAN = (NOTHING, NOTHING)
"""Of Snakemake and of DVC."""
RUNS = ("tood", "atss")
_CONSTANT = (b"return 1 - aligned_giou(boxes, targets)", b"return 1 - 2 * aligned_giou(boxes, targets)")
_INSIDE = """
from tood.config.parts import ASSIGNERS, CRITERIA
from tood.workflow.code_digest import code_behind, package_file
parts = {package_file(one.rpartition(":")[0]) for one in (*ASSIGNERS.values(), *CRITERIA.values())}
print(*code_behind("train", sorted(parts)))
"""
_SLOW_IMPORTS = ("snakemake.cli", "dvc.cli", "dvc.commands.data", "dvc.repo", "dvc.output", "dvc_s3", "torch", "pulp")
_SLOW_IMPORTS += ("pydantic", "pandas", "PIL.Image", "sqlmodel", "boto3", "snakemake_executor_plugin_slurm")
_SLOW_IMPORTS += ("docutils.core", "pygments", "jinja2", "smart_open", "filelock", "scmrepo.git", "dvc_render", "yte")
_fork = multiprocessing.get_context("fork")


class FreshTools:
    """Snakemake and DVC in processes that find their libraries imported, and ``tood`` not: it is read from its files.

    The package of this process must stay unimported, for what is forked takes it along.
    """

    def __init__(self, project: Project) -> None:
        self._folder = project.folder
        self._said = project.folder / ".snakemake/said"
        for name in _SLOW_IMPORTS:
            importlib.import_module(name)

    def run(self, program: str, *arguments: str) -> tuple[int, str]:
        """Exit status and output."""
        assert "tood" not in sys.modules
        process = _fork.Process(target=self._become, args=(program, arguments))
        process.start()
        process.join()
        assert process.exitcode is not None
        return process.exitcode, self._said.read_text(errors="replace")

    def _become(self, program: str, arguments: tuple[str, ...]) -> None:
        os.chdir(self._folder)
        with self._said.open("wb") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        sys.dont_write_bytecode = True  # what is compiled beside the sources stays that of the sources as they were
        sys.path.insert(0, str(self._folder / "src"))
        sys.argv = [str(Path(sys.executable).with_name(program)), *arguments]
        (script,) = entry_points(group="console_scripts", name=program)
        sys.exit(script.load()())

    def to_do(self) -> tuple[str, str]:
        """What ``snakemake -n`` and ``dvc status`` would redo."""
        status, plan = self.run("snakemake", "-n", "--cores", "2")
        jobs = ", ".join(f"{name} {count}" for name, count in jobs_of(plan).items()) or _last_line(plan)
        planned = NOTHING if status == 0 and "Nothing to be done" in plan else jobs
        status, plan = self.run("dvc", "status")
        stages = ", ".join(re.findall(r"^(\S+):$", plan, re.MULTILINE)) or _last_line(plan)
        return planned, NOTHING if status == 0 and "up to date" in plan else stages


def jobs_of(plan: str) -> dict[str, int]:
    """Jobs by rule, without the sum and the rule that is for its inputs alone."""
    return {name: count for name, count in planned(plan).items() if name not in ("all", "total")}


def _last_line(said: str) -> str:
    return (said.strip().splitlines() or ["no output"])[-1]


def project_to_edit(folder: Path, finished: Path | None) -> Project:
    """A finished study with sources of its own, in the hands of DVC; made from ``finished`` or from nothing.

    There is no other study and no other data set, so that ``dvc status`` has to be clean as a whole.
    """
    if finished is None:
        build_project(folder)
    else:
        shutil.copytree(finished, folder, symlinks=True)
    project = Project(folder, forked=False)
    for name in ("src", "workflow"):
        own = folder / name
        own.unlink() if own.is_symlink() else shutil.rmtree(own)
        shutil.copytree(ROOT / name, own, ignore=shutil.ignore_patterns("__pycache__", "dvc"))
    keep_only(folder / "params/studies", "demo")
    keep_only(folder / "params/datasets", "shapes")
    os.environ["PYTHONPATH"] = str(folder / "src")  # before the package that this environment may have installed
    project.snakemake()
    project.run("dvc", "init", "--quiet", "--no-scm")
    project.run("tood", "dvc")
    project.run("dvc", "commit", "--force")
    return project


@dataclass
class Row:
    """What edits of the modules of a folder led to."""

    edits: Counter[str] = field(default_factory=Counter)
    snakemake: Counter[str] = field(default_factory=Counter)
    dvc: Counter[str] = field(default_factory=Counter)


def reword_modules(project: Project, tools: FreshTools, every: int, together: int) -> tuple[dict[str, Row], list[str]]:
    """Edit the modules; what was found by folder, and a line for each edit that redoes something."""
    source, rows, wrong = project.folder / "src", dict[str, Row](), list[str]()
    code = subprocess.run([sys.executable, "-c", _INSIDE], cwd=project.folder, check=True, capture_output=True)
    inside = set(code.stdout.decode().split())
    files = sorted((source / "tood").rglob("*.py"))[::every]
    for group in (files[start : start + together] for start in range(0, len(files), together)):
        found, known = to_do_after(group, tools), len(wrong)
        for file in group:
            planned, status = found if found == CLEAN or len(group) == 1 else to_do_after([file], tools)
            folders = file.relative_to(source).parts[1:-1]
            name = ".".join(file.relative_to(source).with_suffix("").parts)
            row = rows.setdefault(folders[0] if folders else "(top)", Row())
            row.edits.update({"modules": 1, "inside": int(name in inside), **reworded(file.read_bytes())[1]})
            row.snakemake[planned] += 1
            row.dvc[status] += 1
            if (planned, status) != CLEAN:
                wrong.append(f"{name}: snakemake -n: {planned}; dvc status: {status}")
                wrong += [f"    {kind} alone: " + "; ".join(to_do_after([file], tools, (kind,))) for kind in KINDS]
        if found != CLEAN and len(wrong) == known:
            wrong.append(f"{len(group)} modules from {group[0].name} on, but none alone: " + "; ".join(found))
    return rows, wrong


def to_do_after(files: list[Path], tools: FreshTools, kinds: tuple[str, ...] = KINDS) -> tuple[str, str]:
    """What would be redone with other words in all these files."""
    with ExitStack() as edits:
        for file in files:
            edits.enter_context(edited(file, reworded(file.read_bytes(), kinds)[0]))
        return tools.to_do()


@contextmanager
def edited(file: Path, text: bytes) -> Iterator[None]:
    """Another text in a file for a while; afterwards it is as old as it was."""
    before, status = file.read_bytes(), file.stat()
    file.write_bytes(text)
    try:
        yield
    finally:
        file.write_bytes(before)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def change_constant(project: Project, tools: FreshTools) -> dict[str, str]:
    """What a changed constant of a loss does: each claim, with what speaks against it (empty where it holds)."""
    losses, results = project.folder / "src/tood/detection/losses.py", project.folder / "results/demo"
    source = losses.read_bytes()
    assert source.count(_CONSTANT[0]) == 1
    claims: dict[str, str] = {}
    models = [digest(results / run / "model.pt") for run in RUNS]
    with edited(losses, source.replace(*_CONSTANT)):
        said = project.snakemake("--config", "code_minutes=0", status=1)
        words = (*(f"{run} (0 minutes)" for run in RUNS), "tood.detection.losses", "code=keep", "code=new")
        claims["limit of 0 minutes: stops with its sentence"] = "" if all(one in said for one in words) else said
        claims["... and no job was started"] = "" if not jobs_of(said) else said

        said = project.snakemake("--config", "code=keep")
        claims["code=keep: only the table is made again"] = _difference(jobs_of(said), {"compare": 1, "track": 1})
        kept = [digest(results / run / "model.pt") for run in RUNS] == models
        claims["... and every model.pt is as it was"] = "" if kept else "another model.pt"
        marks = set(pd.read_csv(results / "comparison.csv")["changed_code"])
        claims["... and the table marks every row"] = _difference(marks, {"tood.detection.losses"})
        marked = [run for run in RUNS if f"{run} †" in (results / "comparison.md").read_text()]
        claims["... in its text too"] = _difference(marked, list(RUNS))
        said = project.snakemake("-n", "--config", "code=keep")
        claims["... and the second time nothing is to do"] = "" if "Nothing to be done" in said else said

        watched = ModelWatch(results)
        said = project.snakemake("--config", "code=new")
        seen, count = watched.end(), len(RUNS)
        everything = {"train": count, "evaluate": count, "analyse": count, "compare": 1, "track": 1}
        claims["code=new: every run is trained, measured and compared again"] = _difference(jobs_of(said), everything)
        new = [digest(results / run / "model.pt") for run in RUNS]
        replaced = {run: [old, now] for run, old, now in zip(RUNS, models, new, strict=True)}
        claims["... the old model.pt is there until the new one is whole"] = _difference(seen, replaced)
        marks = set(pd.read_csv(results / "comparison.csv")["changed_code"].dropna())
        claims["... and no row is marked any more"] = _difference(marks, set())
        claims["... and then nothing is to do"] = _difference(tools.to_do()[0], NOTHING)
    return claims


def _difference(found: object, wanted: object) -> str:
    return "" if found == wanted else f"{found} instead of {wanted}"


def digest(file: Path) -> str | None:
    """8 hex digits of its content; None without the file."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    except FileNotFoundError:
        return None


class ModelWatch:
    """Looks at the runs' ``model.pt`` 50 times a second, and keeps what it saw in turn, by run."""

    def __init__(self, results: Path) -> None:
        self._seen: dict[str, list[str | None]] = {run: [] for run in RUNS}
        self._results = results
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self._note()

    def _note(self) -> None:
        for run, seen in self._seen.items():
            found = digest(self._results / run / "model.pt")
            if seen[-1:] != [found]:
                seen.append(found)

    def end(self) -> dict[str, list[str | None]]:
        self._over.set()
        self._thread.join()
        self._note()
        return self._seen


def print_rows(rows: dict[str, Row]) -> None:
    columns = ("modules", "inside", *("docstrings", "messages", "comments"), "snakemake -n", "dvc status")
    total = Row()
    for row in rows.values():
        total.edits.update(row.edits)
        total.snakemake.update(row.snakemake)
        total.dvc.update(row.dvc)
    print(f"{'folder':<14}" + "".join(f"{name:>12}" for name in columns[:-2]) + "   " + "   ".join(columns[-2:]))
    for name, row in [*rows.items(), ("all", total)]:
        counts = [row.edits[one] for one in ("modules", "inside", *KINDS)]
        plans = [" | ".join(one) for one in (row.snakemake, row.dvc)]
        print(f"{name:<14}" + "".join(f"{count:>12}" for count in counts) + f"   {plans[0]:<12}   {plans[1]}")
    print("inside: modules that are part of the digest of a training; all edits of a module are made at once")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--every", type=int, default=1, metavar="N", help="edit each Nth module")
    parser.add_argument("--together", type=int, default=1, metavar="N", help="edit N modules at a time")
    parser.add_argument("--project", type=Path, help="a project whose tiny study is finished; made if left out")
    arguments = parser.parse_args()
    os.environ.update({"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "1"})
    with tempfile.TemporaryDirectory(prefix="edits-") as folder:
        start = time.monotonic()
        project = project_to_edit(Path(folder) / "project", arguments.project)
        tools = FreshTools(project)
        before = tools.to_do()
        if before != CLEAN:
            print(f"the study is not finished: snakemake -n: {before[0]}; dvc status: {before[1]}")
            return 1
        ready = time.monotonic()
        rows, wrong = reword_modules(project, tools, arguments.every, arguments.together)
        print_rows(rows)
        print(*wrong, sep="\n")
        print(f"{ready - start:.0f} s until the study was finished, {time.monotonic() - ready:.0f} s of edits\n")
        claims = change_constant(project, tools)
    print("a changed constant in tood/detection/losses.py")
    for claim, against in claims.items():
        print(f"  {claim:<66} {'yes' if not against else 'NO: ' + against}")
    return int(bool(wrong) or any(claims.values()))


if __name__ == "__main__":
    sys.exit(main())
