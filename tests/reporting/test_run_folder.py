"""A run's files are read whole or refused in one sentence whose remedy makes them anew."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tood.io.errors import UserError
from tood.reporting.comparison import ComparisonStudy
from tood.reporting.run_folder import RunFolder

READ: dict[str, Callable[[RunFolder], Any]] = {
    "config.yaml": RunFolder.config,
    "train.json": RunFolder.training,
    "metrics.json": RunFolder.metrics,
    "detections.json": RunFolder.detections,
    "history.csv": RunFolder.history,
    "pr.csv": RunFolder.precision_recall,
    "alignment.json": RunFolder.alignment,
}


@pytest.fixture
def run(make_study: Callable[..., ComparisonStudy]) -> RunFolder:
    run = make_study(rows={"tood": ("tood", 0.8)}, images=4).rows[0].runs[0]
    (run.path / "model.pt").touch()
    return run


def refusal(run: RunFolder, name: str) -> str:
    with pytest.raises(UserError) as caught:
        READ[name](run)
    sentence = str(caught.value)
    assert sentence.startswith(f"{run.path / name}: ")
    assert "\n" not in sentence
    return sentence


def edit(path: Path, line: int, column: str, value: str) -> None:
    lines = path.read_text().splitlines()
    fields = lines[line].split(",")
    fields[lines[0].split(",").index(column)] = value
    lines[line] = ",".join(fields)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("harm", ["missing", "folder", "pipe", "bytes", "text"])
def test_what_is_no_such_file_is_refused_with_what_makes_it_anew(run: RunFolder, name: str, harm: str) -> None:
    path = run.path / name
    path.unlink(missing_ok=True)
    if harm == "folder":
        path.mkdir()
    elif harm == "pipe":
        os.mkfifo(path)
    elif harm != "missing":
        path.write_bytes({"bytes": b"\xff\xfe\x00\n", "text": b"- one\n- two\n"}[harm])
    sentence = refusal(run, name)
    verb = {"config.yaml": "train", "train.json": "train", "history.csv": "train", "alignment.json": "analyse"}
    assert sentence.endswith(f" with: tood {verb.get(name, 'evaluate')} --run {run.path}.")
    assert ("; remove it" in sentence) == (harm != "missing"), "nothing is written over a folder"
    # 'tood train' has nothing to do for a run that has its model and its summary
    assert (f"{run.path / 'model.pt'}, then train" in sentence) == (name in ("config.yaml", "history.csv"))


@pytest.mark.parametrize(
    ("name", "column", "value", "problem"),
    [
        ("history.csv", "loss", "abc", "column 'loss' has 'abc' in place of a number"),
        ("history.csv", "val_AP", "\x1b[2J", "column 'val_AP' has '\\x1b[2J' in place of a number"),
        ("history.csv", "val_AP", "7", "column 'val_AP' has 7, which cannot be"),
        ("history.csv", "lr", "inf", "column 'lr' has inf, which cannot be"),
        ("history.csv", "step", "", "column 'step' has a blank"),
        ("history.csv", "time", "", "column 'time' has a blank"),
        ("history.csv", "epoch", "-1", "column 'epoch' has -1, which cannot be"),
        ("history.csv", "time", "1e300", "column 'time' has 1e+300, which cannot be"),
        ("history.csv", "loss", "1,2", "has 12 fields, the header 11"),
        ("pr.csv", "precision", "high", "column 'precision' has 'high' in place of a number"),
        ("pr.csv", "recall", "", "column 'recall' has a blank"),
        ("pr.csv", "iou", "nan", "column 'iou' has "),
        ("pr.csv", "class", '"WBC', "is not valid CSV"),
        ("pr.csv", "class", "other", "does not have 101 values of recall for class"),
        ("pr.csv", "recall", "1.0", "does not have 101 values of recall for class"),
    ],
)
def test_a_value_that_cannot_be_is_named(run: RunFolder, name: str, column: str, value: str, problem: str) -> None:
    edit(run.path / name, 2, column, value)
    assert problem in refusal(run, name)


@pytest.mark.parametrize("name", ["history.csv", "pr.csv"])
@pytest.mark.parametrize("length", [0, 1, 0.5, 0.999])
def test_a_file_that_breaks_off_is_refused(run: RunFolder, name: str, length: float) -> None:
    content = (run.path / name).read_bytes()
    header = content.index(b"\n") + 1
    (run.path / name).write_bytes(content[: header if length == 1 else int(length * len(content))])
    refusal(run, name)


def test_curves_of_fewer_classes_than_were_measured_are_refused(run: RunFolder) -> None:
    lines = (run.path / "pr.csv").read_text().splitlines(keepends=True)
    (run.path / "pr.csv").write_text("".join(lines[:-101]))
    assert "does not have the classes of metrics.json (see 'Platelets')" in refusal(run, "pr.csv")


def test_a_training_that_has_just_begun_has_no_rows_yet(run: RunFolder) -> None:
    text = (run.path / "history.csv").read_text()
    (run.path / "history.csv").write_text(text.partition("\n")[0] + "\n")
    assert "has no rows although the run is trained" in refusal(run, "history.csv")
    state = run.path / "state/0123/step-000000001.pt"
    state.parent.mkdir(parents=True)
    state.touch()
    assert run.history().empty
    state.unlink()
    (run.path / "train.json").unlink()
    assert run.history().empty


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"seconds": True},
            "field 'seconds' is the truth value true but must be a number; remove it, then train the run again",
        ),
        ({"seconds": "x" * 10_000}, "field 'seconds' is the text 'xxx"),
        ({"steps": 1.5}, "field 'steps' is the number 1.5 but must be a whole number; remove it"),
        ([], "must hold a mapping of fields, but is the list []; remove it"),
    ],
)
def test_what_is_wrong_with_a_record_is_said_in_plain_words(run: RunFolder, changes: Any, problem: str) -> None:
    path = run.path / "train.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes} if isinstance(changes, dict) else changes))
    sentence = refusal(run, "train.json")
    assert problem in sentence
    assert len(sentence) < 1500
