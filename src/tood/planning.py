"""What the workflow needs to know before anything runs: code behind each verb, GPUs, threads."""

import ast
import json
import os
import sys
from functools import cache
from pathlib import Path

from tood.errors import UserError

_PACKAGE = Path(__file__).parent


def enter_environment(mirror: object) -> None:
    """Let rules find the tools beside this interpreter, activated or not, and the mirror of the data.

    The mirror goes by environment variable: where files come from is no parameter of what they become.
    """
    tools = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([tools, os.environ.get("PATH", "")])
    if mirror:
        os.environ["TOOD_MIRROR"] = str(Path(str(mirror)).absolute())


def as_text(value: object) -> str:
    """A slice of the configuration as a rule parameter: the rule reruns when it changes, and only then."""
    return json.dumps(value, sort_keys=True)


def study_reference(study: str | None, dataset: str | None) -> str:
    """``<study>`` or ``<study>@<dataset>``; the study is ``demo`` unless given."""
    name = study or "demo"
    return f"{name}@{dataset}" if dataset else name


def code_files(verb: str) -> list[str]:
    """Files of the package that ``tood/verbs/<verb>.py`` can reach by imports, from the project's folder.

    They are the rule's inputs: edit one and what it computes is redone.
    """
    start = f"tood.verbs.{verb}"
    found: dict[str, Path] = {}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        path = _module_file(module)
        if path is None:
            continue
        found[module] = path
        waiting.extend(_imports(path))
        if "." in module:
            waiting.append(module.rpartition(".")[0])
    base = _PACKAGE.parent.parent
    return sorted(path.relative_to(base).as_posix() for path in found.values())


def _module_file(module: str) -> Path | None:
    parts = module.split(".")
    if parts[0] != "tood":
        return None
    path = _PACKAGE.joinpath(*parts[1:])
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """Modules of the package that a file imports, wherever in it the import stands."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.split(".")[0] == "tood")


def template_files() -> list[str]:
    """Templates of the report, which the code reads."""
    base = _PACKAGE.parent.parent
    return sorted(path.relative_to(base).as_posix() for path in (_PACKAGE / "reporting").rglob("*.html*"))


def gpus_per_run(setting: object) -> int:
    """GPUs that each run trains on: a number, or ``auto`` for all that this machine shows."""
    if setting == "auto":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is not None:
            return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
        return len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()])
    try:
        count = int(str(setting))
    except ValueError:
        count = -1
    if count < 0:
        raise UserError(f"--config gpu={setting}: must be 'auto' or a whole number (0 trains on the CPU).")
    return count
