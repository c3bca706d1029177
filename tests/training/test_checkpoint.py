"""Resume state is intact or refused; two trainers never share a folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tood.errors import UserError
from tood.training.checkpoint import CheckpointStore
from tood.training.lock import exclusive


def filled(tmp_path: Path, steps: int = 3) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "state", "abc")
    for step in range(1, steps + 1):
        store.save(step, {"step": step, "weights": torch.full((4,), float(step))})
    return store


def test_the_newest_state_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert [path.name for path in store.files()] == ["step-000000003.pt", "step-000000002.pt"]
    state = store.load(pytest.fail)
    assert state["step"] == 3
    assert torch.equal(state["weights"], torch.full((4,), 3.0))


@pytest.mark.parametrize("harm", ["truncate", "flip", "empty", "foreign"])
def test_a_damaged_state_is_named_and_the_one_before_it_used(tmp_path: Path, harm: str) -> None:
    store = filled(tmp_path)
    newest = store.files()[0]
    content = bytearray(newest.read_bytes())
    if harm == "truncate":
        content = content[: len(content) // 2]
    elif harm == "flip":
        content[-100] ^= 1
    elif harm == "empty":
        content = bytearray()
    else:
        content[:4] = b"else"
    newest.write_bytes(content)
    warnings: list[str] = []
    assert store.load(warnings.append)["step"] == 2
    assert len(warnings) == 1
    assert newest.name in warnings[0]


def test_nothing_to_continue_from(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "state", "abc").load(pytest.fail) is None


def test_other_configurations_are_known_by_name(tmp_path: Path) -> None:
    filled(tmp_path)
    assert CheckpointStore(tmp_path / "state", "xyz").others() == ["abc"]


def test_a_second_trainer_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom tood.training.lock import exclusive\nfrom tood.errors import UserError\n"
        "try:\n  with exclusive(pathlib.Path(sys.argv[1]), print): print('entered')\nexcept UserError as e: print(e)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "state")]
    with exclusive(tmp_path / "state", print):
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert f"process {os.getpid()} is training this run already" in said
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "entered\n"


def test_a_file_that_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    from tood.detection.model_file import load_model

    (tmp_path / "model.pt").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"model\.pt: cannot be read as weights") as caught:
        load_model(tmp_path / "model.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["config", "classes", "category_ids", "detector"])
def test_an_incomplete_model_is_one_sentence(tmp_path: Path, missing: str) -> None:
    from tood.detection.model_file import load_model

    content = {"format": "tood-1", "config": "{}", "classes": ["a"], "category_ids": [1], "detector": {}}
    del content[missing]
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"model\.pt") as caught:
        load_model(tmp_path / "model.pt")
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the run's folder should be")
    with pytest.raises(UserError, match="cannot be written"), exclusive(tmp_path / "run" / "state", print):
        pass
