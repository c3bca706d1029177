"""Resume state is intact or refused; two trainers never share a folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_run import train

from tood.io.errors import UserError
from tood.training.checkpoint import CheckpointStore
from tood.training.job import Clock
from tood.training.processes.run_lock import exclusive
from tood.training.trainer import TrainingState


def filled(tmp_path: Path, steps: int = 3) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "state", "abc")
    for step in range(1, steps + 1):
        store.save(step, {"step": step, "weights": torch.full((4,), float(step))})
    return store


def test_the_newest_state_comes_back_and_two_are_kept(tmp_path: Path, said: list[str]) -> None:
    store = filled(tmp_path)
    assert [path.name for path in store.files()] == ["step-000000003.pt", "step-000000002.pt"]
    state = store.load()
    assert said == []
    assert state["step"] == 3
    assert torch.equal(state["weights"], torch.full((4,), 3.0))


@pytest.mark.parametrize("harm", ["truncate", "flip", "empty", "foreign", "folder", "pipe"])
def test_a_damaged_state_is_named_and_the_one_before_it_used(tmp_path: Path, harm: str, said: list[str]) -> None:
    store = filled(tmp_path)
    newest = store.files()[0]
    content = bytearray(newest.read_bytes())
    if harm in ("folder", "pipe"):
        newest.unlink()
        newest.mkdir() if harm == "folder" else os.mkfifo(newest)
    elif harm == "truncate":
        content = content[: len(content) // 2]
    elif harm == "flip":
        content[-100] ^= 1
    elif harm == "empty":
        content = bytearray()
    else:
        content[:4] = b"else"
    if harm not in ("folder", "pipe"):
        newest.write_bytes(content)
    assert store.load()["step"] == 2
    assert said == [f"{newest}: is damaged or from another version; using the checkpoint before it."]
    said.clear()
    store.save(3, {"step": 3})
    assert store.load() == {"step": 3}
    assert said == []


def test_a_state_of_something_else_is_passed_over(tmp_path: Path, said: list[str]) -> None:
    store = filled(tmp_path)
    assert store.load(lambda state: state["step"] < 3)["step"] == 2
    assert len(said) == 1


def test_when_none_is_intact_the_training_starts_anew_and_its_own_states_are_kept(
    tmp_path: Path, said: list[str]
) -> None:
    store = filled(tmp_path)
    for path in store.files():
        path.write_bytes(b"")
    assert store.load() is None
    assert said[0].endswith("using the checkpoint before it.")
    assert said[1].endswith("there is no other, so the training starts anew.")
    said.clear()
    store.save(1, {"step": 1})
    assert store.load() == {"step": 1}, "a refused state of a later step must not outlive it"
    assert said == []


def test_without_memory_an_intact_state_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    store = filled(tmp_path)
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(MemoryError):
        store.load()


STATE = {
    "step": 2,
    "data": "d",
    "code": "c",
    "precision": "float32",
    "world": 1,
    "micro_batches": 1,
    "detector": {"weight": torch.ones(2)},
    "optimiser": {"state": {0: {}}, "param_groups": [{"params": [0]}]},
    "means": {},
    "history": [{"step": 2, "epoch": 1, "time": 1.7e9, "lr": 0.1, "loss": 2.5}],
    "losses": [torch.zeros(0, 2)],
}


def test_a_state_with_other_fields_is_another_version() -> None:
    earlier = TrainingState.of(STATE)
    assert earlier is not None
    assert earlier.averages == {}, "versions before averaged nothing"
    assert TrainingState.of({**STATE, "averages": {"weight": torch.ones(2)}}) is not None
    assert TrainingState.of({**STATE, "more": 1}) is None
    for name in STATE:
        assert TrainingState.of({key: value for key, value in STATE.items() if key != name}) is None
    assert TrainingState.of(list(STATE)) is None


@pytest.mark.parametrize("step", [-1, 99])
def test_a_training_goes_on_past_a_state_that_cannot_be_its_own(finished: Path, step: int) -> None:
    folder = finished / "results/tiny/atss"
    state = next((folder / "state").glob("*/step-*18.pt"))
    store = CheckpointStore(folder / "state", state.parent.name)
    store.save(18, {**store.load(), "step": step})
    (state.parent / "clock.json").write_text('["garbage"]')
    (folder / "model.pt").unlink()
    said = train(finished, "atss", "--accumulate", "2")
    assert f"{state.name}: is damaged or from another version; using the checkpoint before it." in said
    assert "goes on in 2 parts instead of 1: still 4 images a step in the same order, 4 a process\n" in said
    assert "continues after step 16 of 18" in said


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"seconds": "long", "attempts": 1, "peak_memory": 1}', '{"seconds": -1, "attempts": 1}', None],
)
def test_figures_that_only_inform_start_anew_where_they_are_damaged(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "clock.json"
    path.mkdir() if content is None else path.write_text(content)
    clock = Clock(path)
    clock.start()
    assert (clock.before, clock.attempts) == (0.0, 1)
    again = Clock(path)
    again.start()
    assert again.attempts == 2


def test_nothing_to_continue_from(tmp_path: Path, said: list[str]) -> None:
    assert CheckpointStore(tmp_path / "state", "abc").load() is None
    assert said == []


def test_other_configurations_are_known_by_name(tmp_path: Path) -> None:
    filled(tmp_path)
    assert CheckpointStore(tmp_path / "state", "xyz").others() == ["abc"]


def test_a_second_trainer_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom tood.training.processes.run_lock import exclusive\n"
        "from tood.io.errors import UserError\n"
        "try:\n  with exclusive(pathlib.Path(sys.argv[1])): print('entered')\nexcept UserError as e: print(e)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "state")]
    with exclusive(tmp_path / "state"):
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert f"process {os.getpid()} is training this run already" in said
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "entered\n"


def test_a_file_that_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    from tood.weights.model_file import load_model

    (tmp_path / "model.pt").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"model\.pt: cannot be read as weights") as caught:
        load_model(tmp_path / "model.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["config", "classes", "category_ids", "detector"])
def test_an_incomplete_model_is_one_sentence(tmp_path: Path, missing: str) -> None:
    from tood.weights.model_file import load_model

    content = {"format": "tood-1", "config": "{}", "classes": ["a"], "category_ids": [1], "detector": {}}
    del content[missing]
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"model\.pt") as caught:
        load_model(tmp_path / "model.pt")
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the run's folder should be")
    with pytest.raises(UserError, match="cannot be written"), exclusive(tmp_path / "run" / "state"):
        pass
