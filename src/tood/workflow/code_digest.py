"""The code behind each verb, found from its imports."""

import ast
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def code_files(verb: str, parts: Sequence[Path] = ()) -> list[str]:
    """Files that ``tood/verbs/<verb>.py`` can reach by imports of the package, from the project's folder.

    They are the rule's inputs: edit one and what it computes is redone. ``parts`` are the files of a method's
    assigner and criterion, which no other code imports; they may be the project's own.
    """
    found: dict[str, Path] = {}
    waiting = [f"tood.verbs.{verb}"]
    for part in parts:
        if part.is_relative_to(_PACKAGE):
            waiting.append(".".join(("tood", *part.relative_to(_PACKAGE).with_suffix("").parts)))
        else:
            waiting.extend(_imports(part))
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        path = _module_file(module)
        if path is None:
            continue
        found[module] = path
        waiting.extend(_package_imports(path))
        if "." in module:
            waiting.append(module.rpartition(".")[0])
    return sorted({_from_project(path) for path in (*found.values(), *parts)})


def _from_project(path: Path) -> str:
    """Relative to the project's folder, which is where commands are run, or to the package's."""
    for base in (_PACKAGE.parent.parent, Path.cwd()):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return str(path)


def _module_file(module: str) -> Path | None:
    parts = module.split(".")
    if parts[0] != "tood":
        return None
    path = _PACKAGE.joinpath(*parts[1:])
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None


@cache
def _package_imports(path: Path) -> tuple[str, ...]:
    """``_imports`` of the package's own files, which do not change while it runs; a project's may."""
    return _imports(path)


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


def code_digest(verb: str, parts: Sequence[Path] = ()) -> str:
    """16 hex digits over the content of ``code_files(verb, parts)``."""
    base = _PACKAGE.parent.parent
    seen = hashlib.sha256()
    for name in code_files(verb, parts):
        path = base / name
        seen.update((path if path.is_file() else Path(name)).read_bytes())
    return seen.hexdigest()[:16]
