"""A small project: the repository's workflow with a study of minutes turned into seconds."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from forked_command import TOOLS, ForkedCommand
from forked_tools import forked_tools

ROOT = Path(__file__).parents[2]
LINKED = ("Snakefile", "workflow", "profiles", "src")
TINY = {
    "studies/demo": {
        "title": "Tiny",
        "dataset": "shapes",
        "baseline": "atss",
        "analysis": ["alignment"],
        "common": {"backbone": "light", "schedule": "demo"},
        "runs": {
            "tood": {
                "method": "tood",
                "seed": 0,
                "overrides": {"method": {"criterion": {"warmup_epochs": None, "warmup_share": 0.5}}},
            },
            "atss": {"method": "atss"},
        },
    },
    "datasets/shapes": {
        "format": "shapes",
        "size": 64,
        "splits": {"train": {"images": 16, "seed": 1}, "val": {"images": 6, "seed": 2}},
    },
    "backbones/light": {
        "kind": "light",
        "weights": "generated",
        "first_stage_width": 8,
        "width": 32,
        "norm_groups": 8,
        "pretraining": {"crops": 64, "size": 32, "epochs": 1, "batch": 16},
    },
    "schedules/demo": {
        "epochs": 2,
        "milestones": [1],
        "batch": 4,
        "lr": 0.01,
        "lr_batch": 4,
        "warmup": {"iterations": 2, "ratio": 0.1},
        "grad_clip": 10.0,
        "images": {"short": 64, "long": 64},
    },
}


class Project:
    """A folder to run the real tools in."""

    def __init__(self, folder: Path, *, forked: bool = True) -> None:
        self.folder = folder
        self._forked = forked
        """Whether the tools come from a process that has imported this package: not where its sources are edited."""

    def run(self, *command: str, status: int | None = 0, **environment: str) -> str:
        """What a tool of the environment says; its exit status is checked unless None."""
        tools = Path(sys.executable).parent
        variables = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DVC_NO_ANALYTICS": "1",
            "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
            **environment,
        }
        without = [name for name in ("MLFLOW_TRACKING_URI", "TOOD_MIRROR") if name not in environment]
        if self._forked:
            variables |= {"PATH": f"{forked_tools()}{os.pathsep}{variables['PATH']}", TOOLS: str(forked_tools())}
            ended, said = ForkedCommand(self.folder, *command, without=without, **variables).end(seconds=900)
        else:
            everything = {key: value for key, value in os.environ.items() if key not in without} | variables
            started = subprocess.run(
                [tools / command[0], *command[1:]],
                cwd=self.folder,
                env=everything,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            ended, said = started.returncode, started.stdout
        if status is not None:
            assert ended == status, said[-6000:]
        return said

    def snakemake(self, *arguments: str, status: int | None = 0, **environment: str) -> str:
        return self.run("snakemake", *arguments, "--cores", "2", status=status, **environment)

    def edit(self, block: str, **changes: object) -> None:
        path = self.folder / "params" / f"{block}.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}, sort_keys=False))

    def git(self, *arguments: str) -> None:
        name = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", *name, *arguments], cwd=self.folder, check=True, capture_output=True)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)


def planned(said: str) -> dict[str, int]:
    """Jobs by rule, from Snakemake's own table."""
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE)}


def keep_only(folder: Path, *names: str) -> None:
    """Remove all YAML files of a folder of ``params`` but those of the given names."""
    for file in folder.rglob("*.yaml"):
        if file.relative_to(folder).with_suffix("").as_posix() not in names:
            file.unlink()


def copied(template: Path, folder: Path) -> Project:
    """A copy of a project, to do with as a test likes."""
    return Project(shutil.copytree(template, folder, symlinks=True, dirs_exist_ok=True))


def build_project(folder: Path) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "params", folder / "params")
    for block, content in TINY.items():
        (folder / "params" / f"{block}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / ".gitignore").write_text("/data/\n/results/\n/mlflow.db*\n/mlruns/\n/.snakemake/\n__pycache__/\n")
    return Project(folder)
