"""Put together the pages of the site: those of this folder, the changes, and the names of ``tood.__all__``.

    python docs/make_pages.py FOLDER

A page that another one names in backticks becomes a link in the site. The reference is read from the sources, without
importing what they import.
"""

import ast
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import tood

DOCS = Path(__file__).parent
_API = """# Names of the Python interface

All that is promised to stay, from the docstrings; [Python](python.md) shows how they are used.

"""
_PAGE = re.compile(r"(?<!\[)`docs/(\w+\.md)`")
_DOUBLE = re.compile(r"``([^`]+)``")
_WIDE = 100  # characters of a signature in one line


def make_pages(target: Path) -> None:
    """Write all pages and pictures into ``target``, anew."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in DOCS.iterdir():
        if file.suffix == ".md":
            (target / file.name).write_text(linked(file.read_text(encoding="utf-8")), encoding="utf-8")
        elif file.suffix in (".png", ".jpg"):
            shutil.copyfile(file, target / file.name)
    changes = (DOCS.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    (target / "changes.md").write_text(linked(changes), encoding="utf-8")
    (target / "api.md").write_text(_API + "\n".join(described(name) for name in names()), encoding="utf-8")


def linked(text: str) -> str:
    """The page with links where pages are named, outside of examples."""
    parts = re.split(r"^( *```.*?^ *```)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if place % 2 else _PAGE.sub(r"[`docs/\1`](\1)", part) for place, part in enumerate(parts))


def names() -> list[str]:
    """What is public and no string."""
    return [name for name in tood.__all__ if not name.startswith("__")]


def described(name: str) -> str:
    """A section on a public function or class."""
    node = _definition(name)
    if isinstance(node, ast.FunctionDef):
        return f"## {name}\n\n{_signature(node, f'tood.{name}')}\n\n{_doc(node)}\n"
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    lines = [f"## {name}", "", f"```python\nclass tood.{name}{f'({bases})' if bases else ''}\n```", "", _doc(node), ""]
    lines += [f"* `{field}: {kind}`{f' – {said}' if said else ''}" for field, kind, said in _fields(node)]
    for method in _methods(node):
        lines += ["", _signature(method, f"{name}.{method.name}"), "", _doc(method)]
    return "\n".join(lines) + "\n"


def _definition(name: str) -> ast.FunctionDef | ast.ClassDef:
    spec = find_spec(tood._HOMES[name])
    assert spec is not None
    assert spec.origin is not None
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    return next(one for one in body if isinstance(one, ast.FunctionDef | ast.ClassDef) and one.name == name)


def _doc(node: ast.FunctionDef | ast.ClassDef) -> str:
    return _DOUBLE.sub(r"`\1`", ast.get_docstring(node) or "")


def _signature(node: ast.FunctionDef, name: str) -> str:
    """The definition as one line, or a line for each argument."""
    if _is_property(node):
        returns = ast.unparse(node.returns) if node.returns else ""
        return f"```python\n{name}: {returns}\n```"
    node.args.args = [one for one in node.args.args if one.arg != "self"]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    arguments = ast.unparse(node.args)
    line = f"{name}({arguments}){returns}"
    if len(line) > _WIDE:
        inside = ",\n    ".join(re.split(r", (?=\*|\w+(?::|,|$))", arguments))
        line = f"{name}(\n    {inside},\n){returns}"
    return f"```python\n{line}\n```"


def _is_property(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(one) == "property" for one in node.decorator_list)


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """Annotated names of a class, their types, and the text that follows each."""
    for place, one in enumerate(node.body):
        if isinstance(one, ast.AnnAssign):
            after = node.body[place + 1] if place + 1 < len(node.body) else None
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            said = str(after.value.value) if is_text else ""  # type: ignore[union-attr]
            yield ast.unparse(one.target), ast.unparse(one.annotation).strip("'"), _DOUBLE.sub(r"`\1`", said)


def _methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and (not one.name.startswith("_") or one.name == "__call__"):
            decorators = [ast.unparse(decorator) for decorator in one.decorator_list]
            if "overload" not in decorators:
                yield one


if __name__ == "__main__":
    make_pages(Path(sys.argv[1]))
