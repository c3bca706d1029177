"""The code behind each verb, found from its imports."""

import ast
import hashlib
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parent


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


def code_digest(verb: str) -> str:
    """16 hex digits over the content of ``code_files(verb)``."""
    base = _PACKAGE.parent.parent
    seen = hashlib.sha256()
    for path in code_files(verb):
        seen.update((base / path).read_bytes())
    return seen.hexdigest()[:16]
