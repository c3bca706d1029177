"""Digests of the code behind a result, which comments, docstrings, annotations and messages do not change.

A result depends on the modules that can change its numbers: those that the roots of its verb reach by imports, apart
from the interfaces in ``NEUTRAL``, which read, write, log, lock and start processes, but compute nothing. A run also
depends on the files of its method's assigner and criterion, which may be the project's own.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar, get_args

_PACKAGE = Path(__file__).parents[1]
_DIGITS = 16
_Node = TypeVar("_Node", bound=ast.AST)

Verb = Literal["prepare", "pretrain", "train", "evaluate", "analyse", "submit", "compare"]
VERBS: tuple[Verb, ...] = get_args(Verb)

ROOTS: Mapping[Verb, tuple[str, ...]] = {
    "prepare": ("tood.data.prepare",),
    "pretrain": ("tood.training.pretrain", "tood.data.synthetic.shapes", "tood.detection.backbones"),
    "train": ("tood.training.setup", "tood.training.loop"),
    "evaluate": ("tood.evaluation.detections", "tood.evaluation.coco_metrics", "tood.evaluation.outputs"),
    "analyse": (
        "tood.evaluation.alignment_split",
        "tood.evaluation.alignment_boxes",
        "tood.evaluation.alignment_measures",
        "tood.evaluation.alignment_files",
    ),
    "submit": ("tood.evaluation.detections", "tood.evaluation.submission"),
    "compare": ("tood.verbs.compare",),
}
"""The modules that compute what a verb writes; its digests cover the modules that they import too."""

NEUTRAL = (
    "tood.config",  # what it decides is in the resolved configuration; but tood.config.method computes with it
    "tood.data.box_drawing",  # pictures for people
    "tood.data.fetch",  # what it obtains is verified, and its content is part of the data's digest
    "tood.data.findings",
    "tood.data.prepared",
    "tood.evaluation.samples",
    "tood.io",
    "tood.training.breakdown",
    "tood.training.checkpoint",
    "tood.training.history",
    "tood.training.job",
    "tood.training.progress",
    "tood.training.processes",  # but tood.training.processes.distributed adds gradients up
    "tood.verbs.folders",
    "tood.verbs.open_run",
    "tood.weights.mmdet",
    "tood.weights.tensor_files",
    "tood.workflow",
)
"""Modules (with those below them) that code of results may import and that belong to no digest."""

COMPUTING = ("tood.config.method", "tood.training.processes.distributed")
"""Modules below a neutral one that do compute numbers."""


def is_neutral(module: str) -> bool:
    """Whether a module of the package is an interface that cannot change a number."""
    if module in COMPUTING or module == "tood":
        return module == "tood"
    return any(module == name or module.startswith(f"{name}.") for name in NEUTRAL)


def code_behind(verb: Verb, parts: Sequence[Path] = ()) -> dict[str, str]:
    """16 hex digits of each module, or of each file of the project, that can change what a verb computes.

    ``parts`` are the files of a method's assigner and criterion. The project's own are named by their path from the
    project's folder, the folder that commands run in.
    """
    found: dict[str, str] = {}
    waiting = list(ROOTS[verb])
    for part in parts:
        if part.is_relative_to(_PACKAGE):
            waiting.append(".".join(("tood", *part.relative_to(_PACKAGE).with_suffix("").parts)))
        else:
            found[_from_project(part)], imports = _digest_and_imports(part)
            waiting.extend(imports)
    found |= _reached(tuple(sorted(set(waiting))))
    if verb == "compare":
        found |= {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS] for path in _templates()}
    return dict(sorted(found.items()))


@cache
def _reached(modules: tuple[str, ...]) -> Mapping[str, str]:
    """Digests of the package's modules that some reach by imports, themselves included, without neutral ones."""
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found or is_neutral(module):
            continue
        path = _module_file(module)
        if path is not None:
            found[module], imports = _package_digest_and_imports(path)
            waiting.extend(imports)
    return found


def digests_of(names: Iterable[str]) -> dict[str, str]:
    """The current digests of those of the named modules and files of the project that exist."""
    files = {name: Path(name) if is_own_file(name) else package_file(name) for name in names}
    return {name: _digest_and_imports(path)[0] for name, path in files.items() if path.is_file()}


def combined(code: Mapping[str, str]) -> str:
    """16 hex digits over the digests of several modules."""
    return hashlib.sha256("".join(f"{name} {code[name]}\n" for name in sorted(code)).encode()).hexdigest()[:_DIGITS]


def changed_modules(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Names of the modules that differ, are new or are gone."""
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def is_own_file(name: str) -> bool:
    """Whether a name in ``code_behind`` is a file of the project and no module of the package."""
    return name.endswith(".py")


def package_file(module: str) -> Path:
    """The file of a module of the package."""
    return _PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")


def _templates() -> list[Path]:
    return sorted((_PACKAGE / "reporting").rglob("*.html*"))


def _from_project(path: Path) -> str:
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else str(path)


def _module_file(module: str) -> Path | None:
    """The file of a module of the package; None for a package, a name in a module, and anything else."""
    parts = module.split(".")
    path = package_file(module) if parts[0] == "tood" and len(parts) > 1 else None
    return path if path is not None and path.is_file() else None


@cache
def _package_digest_and_imports(path: Path) -> tuple[str, tuple[str, ...]]:
    """Of the package's own files, which do not change while it runs; a project's may."""
    return _digest_and_imports(path)


def _digest_and_imports(path: Path) -> tuple[str, tuple[str, ...]]:
    """The digest of a file, and the modules of the package that it imports, wherever in it the import stands."""
    text, imports = _stripped(ast.parse(path.read_bytes(), str(path)))
    names: list[str] = []
    for node in imports:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    return digest, tuple(name for name in names if name.split(".")[0] == "tood")


def canonical(tree: ast.Module) -> str:
    """What a file does, as text that stays the same where only its wording, layout or typing changes."""
    return _stripped(tree)[0]


def _stripped(tree: ast.Module) -> tuple[str, list[ast.Import | ast.ImportFrom]]:
    """The text of ``canonical``, and the imports that were found on the way."""
    behaviour = _Behaviour()
    return _dumped(behaviour.visit(tree)), behaviour.imports


_SPEAKING = frozenset({"debug", "info", "warning", "error", "exception", "critical", "note", "box", "say", "warn"})
"""Functions and methods whose string arguments are messages."""
_DESCRIBING = frozenset({"description", "title", "examples"})
"""Arguments of fields that only document them."""


class _Behaviour(ast.NodeTransformer):
    """Takes out what does not change what code does: documentation, annotations, messages, neutral imports."""

    def __init__(self) -> None:
        self.imports: list[ast.Import | ast.ImportFrom] = []

    def visit_Module(self, node: ast.Module) -> ast.Module:
        """The imports come first and sorted: their order decides nothing in this package."""
        self.generic_visit(node)
        names = sorted({line for one in self.imports for line in _imported(one)})
        node.body[:0] = [ast.Expr(ast.Constant(line)) for line in names]
        return node

    def visit_Import(self, node: ast.Import) -> None:
        self.imports.append(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imports.append(node)

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """A text by itself is documentation."""
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        self.generic_visit(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """``x: int = 1`` is ``x = 1``; a field without a value is its name."""
        if node.value is None:
            return ast.Expr(node.target)
        return self.generic_visit(ast.Assign([node.target], node.value))

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        node.msg = None
        self.generic_visit(node)
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        self.generic_visit(node)
        return _without_texts(node)

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in _SPEAKING or called.endswith("Error"):
            return _without_texts(node)
        if called == "Field":
            node.keywords = [one for one in node.keywords if one.arg not in _DESCRIBING]
        return node


class _WithoutTexts(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Constant:
        return ast.Constant("")


def _without_texts(node: _Node) -> _Node:
    return _WithoutTexts().visit(node)  # type: ignore[no-any-return]


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """A line for each name that an import brings from where it may matter."""
    module = getattr(node, "module", None) or ""
    for alias in node.names:
        whole = f"{module}.{alias.name}" if module else alias.name
        neutral = whole.split(".")[0] == "tood" and (is_neutral(whole) or (module != "" and is_neutral(module)))
        if whole in COMPUTING or module in COMPUTING or not neutral:
            yield f"{whole} as {alias.asname or alias.name}"


def _dumped(node: object) -> str:
    """The tree as text, without what is empty, so that it is the same in every version of Python."""
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields if name not in ("ctx", "kind"))
        inside = ",".join(f"{name}={_dumped(value)}" for name, value in fields if value not in (None, []))
        return f"{type(node).__name__}({inside})"
    if isinstance(node, list):
        return "[" + ",".join(_dumped(item) for item in node) + "]"
    return repr(node)
