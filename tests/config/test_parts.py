"""Own assigners and criteria from files of the project, and every way in which they cannot be used."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tood.config import parts
from tood.config.messages import validate
from tood.config.method import MethodConfig
from tood.config.parts import ASSIGNERS, CRITERIA, STORED, CriterionPart, code_of
from tood.detection.assigners.base import Assigner
from tood.io.errors import UserError

HEAD = {"kind": "parallel", "boxes": "distance"}
OWN = """
from typing import ClassVar
from tood.config.base import PositiveInt
from tood.detection.assigners.base import Assigner
from tood.detection.criteria.focal import FocalCriterion

class Mine(Assigner):
    k: PositiveInt = 3
    deep: ClassVar[int] = 1

    def assign(self, batch):
        return None

class Idle(Assigner):
    pass

class Losses(FocalCriterion):
    temperature: float = 1.0
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "extensions").mkdir()
    file = tmp_path / "extensions/mine.py"
    file.write_text(OWN)
    return file


def method(criterion: dict[str, Any], **options: Any) -> MethodConfig:
    content = {"name": "x", "head": HEAD, "criterion": criterion}
    found: MethodConfig = validate(MethodConfig, content, "params/methods/x.yaml", **options)
    return found


def refused(criterion: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        method(criterion)
    said = str(caught.value)
    assert said.startswith("params/methods/x.yaml: field '")
    assert "\n" not in said
    assert said[-1] in ".?"
    return said


@pytest.mark.parametrize(("listed", "base"), [(ASSIGNERS, Assigner), (CRITERIA, CriterionPart)])
def test_every_listed_kind_is_the_class_of_that_kind(listed: dict[str, str], base: type[parts.Part]) -> None:
    for kind, place in listed.items():
        found = base.of_kind({"kind": kind})
        assert issubclass(found, base)
        assert f"{found.__module__}:{found.__name__}" == place
        assert found().kind == kind


def test_an_own_assigner_and_criterion_are_read_with_their_options(own: Path) -> None:
    found = method({"kind": "focal", "assigner": {"kind": "extensions/mine.py:Mine", "k": 5}})
    assert found.model_dump()["criterion"]["assigner"] == {"kind": "extensions/mine.py:Mine", "k": 5}
    assert MethodConfig.model_validate(found.model_dump(mode="json")) == found
    assert {path.name for path in code_of(found)} == {"mine.py", "focal.py"}
    assert own in code_of(found)

    criterion = method({"kind": "extensions/mine.py:Losses", "temperature": 2.0}).criterion
    assert criterion.model_dump()["temperature"] == 2.0
    assert criterion.model_dump()["assigner"]["kind"] == "atss"


def test_what_a_finished_model_says_is_read_without_anybodys_code(own: Path) -> None:
    written = method({"kind": "extensions/mine.py:Losses", "temperature": 2.0}).model_dump(mode="json")
    own.write_text("raise RuntimeError('executed')")
    found = validate(MethodConfig, written, "model.pt", context=STORED)
    assert found.criterion.kind == "extensions/mine.py:Losses"
    assert code_of(found) == []
    assert found.model_dump(mode="json") == written


def test_an_edited_file_is_read_again(own: Path) -> None:
    criterion = {"kind": "focal", "assigner": {"kind": "extensions/mine.py:Mine", "k": 0}}
    assert "field 'criterion.assigner.k' is 0 but must be" in refused(criterion)
    own.write_text(OWN.replace("k: PositiveInt", "k: int"))
    assert method(criterion).model_dump()["criterion"]["assigner"]["k"] == 0


def test_an_edit_of_the_same_size_and_second_is_read_too(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    criterion = {"kind": "extensions/mine.py:Losses"}
    times = (own.stat().st_atime, own.stat().st_mtime)
    assert method(criterion).model_dump()["criterion"]["temperature"] == 1.0
    own.write_text(OWN.replace("= 1.0", "= 2.0"))
    os.utime(own, times)
    assert method(criterion).model_dump()["criterion"]["temperature"] == 2.0
    assert [path.name for path in own.parent.iterdir()] == ["mine.py"]


def test_a_part_that_can_only_be_of_one_kind() -> None:
    for kind in ("max_iou", "extensions/mine.py:Mine"):
        with pytest.raises(UserError, match=r"field 'criterion\.warmup_assigner' is refused: kind must be 'atss' here"):
            method({"kind": "task_aligned", "warmup_assigner": {"kind": kind}})


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("extensions/other.py:Mine", "but there is no file extensions/other.py; run this in the project's folder."),
        ("linked.py:Mine", "name a file below the project's folder."),
        ("extensions/mine.py:Idle", "but Idle in extensions/mine.py must also define assign."),
        (f"{os.sep}tmp/mine.py:Mine", "name a file below the project's folder."),
        ("extensions/../../mine.py:Mine", "name a file below the project's folder."),
        (
            "extensions/mine.py:Losses",
            "but extensions/mine.py must have a class Losses derived from tood.detection.assigners.base.Assigner; "
            "that has Mine and Idle.",
        ),
        (
            "extensions/mine.py:Assigner",
            "but extensions/mine.py must have a class Assigner derived from tood.detection.assigners.base.Assigner; "
            "that has Mine and Idle.",
        ),
    ],
)
def test_own_code_that_cannot_be_had(kind: str, reason: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "mine.py"
    elsewhere.write_text(OWN)
    Path("linked.py").symlink_to(elsewhere)
    said = refused({"kind": "focal", "assigner": {"kind": kind}})
    assert said == f"params/methods/x.yaml: field 'criterion.assigner.kind' is '{kind}', {reason}"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere' (line 1)"),
        ("\n\ndef f(:\n", "SyntaxError: "),
        ("\nx = 1 / 0\n", "ZeroDivisionError: division by zero (line 2)"),
        ("raise ValueError('first\\nsecond')", "ValueError: first second (line 1)"),
    ],
)
def test_own_code_that_cannot_be_imported(own: Path, code: str, reason: str) -> None:
    own.write_text(code)
    said = refused({"kind": "extensions/mine.py:Losses"})
    assert "field 'criterion.kind' is 'extensions/mine.py:Losses', which cannot be imported: " in said
    assert reason in said


def test_an_unknown_option_of_own_code_names_the_nearest() -> None:
    said = refused({"kind": "focal", "assigner": {"kind": "extensions/mine.py:Mine", "kk": 5}})
    assert said.endswith("field 'criterion.assigner.kk' is unknown; did you mean 'k'?")
    said = refused({"kind": "extensions/mine.py:Losses", "temprature": 5})
    assert said.endswith("field 'criterion.temprature' is unknown; did you mean 'temperature'?")


@pytest.mark.parametrize("kind", [7, None, ["focal"]])
def test_a_kind_that_is_no_text(kind: object) -> None:
    assert "field 'criterion.kind' is " in refused({"kind": kind})
