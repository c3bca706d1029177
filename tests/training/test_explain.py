"""``tood explain assignment``: the locations that a method gives to the objects of a picture."""

from pathlib import Path

import pytest
from PIL import Image
from tiny_run import tood

from tood.io.errors import UserError
from tood.verbs.explain import explain_assignment


def test_it_draws_the_assignment_before_and_after_the_training(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    before, after = explain_assignment(Path("results/tiny/atss"), "000000.png", "train", tmp_path / "a.png")
    assert [before.moment, after.moment] == ["before the training", "after it"]
    assert before.boxes.tolist() == after.boxes.tolist()
    assert (before.boxes[:, 2:] > before.boxes[:, :2]).all()
    rows = before.locations
    assert len(rows)
    assert set(rows["stride"]) <= {8, 16, 32, 64, 128}
    assert set(rows["object"]) <= set(range(len(before.boxes)))
    owners = before.boxes[rows["object"]]
    assert (owners[:, 0] < rows["x"]).all()
    assert (rows["x"] < owners[:, 2]).all()
    assert (owners[:, 1] < rows["y"]).all()
    assert (rows["y"] < owners[:, 3]).all()
    assert rows.equals(after.locations), "ATSS looks at anchors alone, which do not learn"
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"


def test_an_aligned_assignment_follows_the_predictions(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tood(project, "explain", "assignment", "--run", "results/tiny/tood", "--out", str(tmp_path / "a.png"))
    assert "results/tiny/tood is not trained yet" in said
    assert "positive locations" in said
    monkeypatch.chdir(project)
    with pytest.raises(UserError, match="split 'val' has no such file"):
        explain_assignment(Path("results/tiny/tood"), "nothing.png", "val", tmp_path / "b.png")
    with pytest.raises(UserError, match="has no such split"):
        explain_assignment(Path("results/tiny/tood"), None, "tset", tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()
