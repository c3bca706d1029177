"""What the code behind a result is: all that can change a number, and nothing else."""

import ast
from pathlib import Path

import pytest

from tood.config.parts import code_of
from tood.config.study import load_study
from tood.workflow.code_digest import (
    COMPUTING,
    NEUTRAL,
    ROOTS,
    VERBS,
    Verb,
    canonical,
    changed_modules,
    code_behind,
    is_neutral,
    package_file,
)

PACKAGE = Path(__file__).parents[2] / "src/tood"
MODULES = sorted(
    ".".join(("tood", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in PACKAGE.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
PARALLEL = {"__init__", "__main__", "base", "task_aligned"}
"""Names of modules that mean the same in parallel places."""
PARTS = [
    package_file(name)
    for name in MODULES
    if name.startswith(("tood.detection.assigners.", "tood.detection.criteria.")) and not name.endswith(".base")
]
INSIDE = sorted({module for verb in VERBS for module in code_behind(verb, PARTS if verb == "train" else ())})


def text_of(module: str) -> str:
    return package_file(module).read_text(encoding="utf-8")


class Changed(ast.NodeTransformer):
    """Changes the first number, truth value or argument that it meets outside texts and annotations."""

    def __init__(self) -> None:
        self.done = False

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = [self.visit(one) for one in node.body]
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if self.done or isinstance(node.value, str) or node.value in (None, ...):
            return node
        self.done = True
        return ast.Constant(not node.value if isinstance(node.value, bool) else 2 * node.value + 1)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called in ("error", "info", "note", "box", "warning") or called.endswith("Error"):
            return node
        if not self.done and node.args:
            self.generic_visit(node)
            if not self.done:
                self.done = True
                node.args = node.args[:-1]
            return node
        return self.generic_visit(node)


@pytest.mark.parametrize("module", [name for name in INSIDE if name in MODULES])
def test_a_changed_constant_of_a_module_inside_changes_its_digest(module: str) -> None:
    tree, changed = ast.parse(text_of(module)), Changed()
    before = canonical(ast.parse(text_of(module)))
    assert canonical(changed.visit(tree)) != before
    assert changed.done


@pytest.mark.parametrize("module", [name for name in INSIDE if name in MODULES])
def test_words_of_a_module_inside_leave_its_digest(module: str) -> None:
    """A comment at every line's end where that is none of a text, other docstrings, other messages, no annotations."""
    text = text_of(module)
    assert canonical(ast.parse(f"# a comment\n{text}\n# another")) == canonical(ast.parse(text))
    reworded = Reworded().visit(ast.parse(text))
    assert canonical(ast.parse(ast.unparse(ast.fix_missing_locations(reworded)))) == canonical(ast.parse(text))


class Reworded(ast.NodeTransformer):
    """Another docstring everywhere, another message in every raise, no annotation of what functions return."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.Expr(ast.Constant(f"{node.value.value} Said otherwise."))
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        class Texts(ast.NodeTransformer):
            def visit_Constant(self, inner: ast.Constant) -> ast.AST:
                return ast.Constant(f"{inner.value}!") if isinstance(inner.value, str) else inner

            def visit_JoinedStr(self, inner: ast.JoinedStr) -> ast.AST:
                return ast.Constant("said otherwise")

        return Texts().visit(node)


@pytest.mark.parametrize("verb", VERBS)
def test_code_inside_imports_nothing_outside_but_neutral_interfaces(verb: Verb) -> None:
    """So that no number can be decided outside: what is behind a verb is closed under imports."""
    inside = set(code_behind(verb, PARTS if verb == "train" else ()))
    for module in inside & set(MODULES):
        for node in ast.walk(ast.parse(text_of(module))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tood":
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                imported = [name for name in names if name in MODULES] or [node.module]
                assert all(name in inside or is_neutral(name) for name in imported), (module, imported)


def test_what_speaks_locks_launches_reads_draws_or_reports_is_not_behind_a_training() -> None:
    inside = set(code_behind("train", PARTS))
    outside = ("cli", "data.fetch", "evaluation", "io", "mlflow_mirror", "reporting", "verbs", "workflow")
    assert not {name for name in inside if name.startswith(tuple(f"tood.{folder}." for folder in outside))}
    assert {"tood.detection.losses", "tood.training.step", "tood.training.optim", "tood.data.transforms"} <= inside
    assert set(COMPUTING) <= inside


def test_neutral_interfaces_exist_and_are_few() -> None:
    for name in NEUTRAL:
        assert (PACKAGE.parent / name.replace(".", "/")).is_dir() or package_file(name).is_file(), name
    assert len(NEUTRAL) <= 20
    assert all(package_file(root).is_file() for roots in ROOTS.values() for root in roots)


def test_a_module_is_found_by_its_name() -> None:
    names = [path.stem for path in PACKAGE.rglob("*.py") if path.stem not in PARALLEL]
    assert len(names) == len(set(names))
    assert len(list(PACKAGE.glob("*.py"))) <= 3


def test_most_modules_are_outside_every_digest() -> None:
    outside = [name for name in MODULES if name not in INSIDE]
    assert {"tood.io.console", "tood.cli.main", "tood.verbs.train", "tood.training.processes.launch"} <= set(outside)


def test_code_of_a_run_is_its_own_assigner_and_criterion_too() -> None:
    runs = load_study("family", PACKAGE.parents[1] / "params").runs
    plain = set(code_behind("train"))
    more = {
        row: set(code_behind("train", code_of(runs[f"{row}_s0"].method))) - plain for row in ("tood", "gfl", "pisa")
    }
    folder = "tood.detection"
    assert {f"{folder}.criteria.task_aligned", f"{folder}.assigners.task_aligned"} <= more["tood"]
    assert f"{folder}.criteria.gfl" in more["gfl"]
    assert {f"{folder}.criteria.pisa", f"{folder}.assigners.max_iou"} <= more["pisa"]
    assert not any("gfl" in name or "task_aligned" in name for name in more["pisa"])


def test_a_method_of_ones_own_is_part_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "mine.py"
    own.write_text('"""Mine."""\nfrom tood.detection.losses import giou_loss\nK = 9\n')
    before = code_behind("train", [own])
    assert "mine.py" in before
    assert "tood.detection.losses" in before, "what it imports can change a number too"
    own.write_text('"""Mine, said otherwise."""\nfrom tood.detection.losses import giou_loss\nK = 9  # nine\n')
    assert code_behind("train", [own]) == before
    own.write_text('"""Mine."""\nfrom tood.detection.losses import giou_loss\nK = 8\n')
    assert changed_modules(before, code_behind("train", [own])) == ["mine.py"]
