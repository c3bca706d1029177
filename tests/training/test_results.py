"""The results of a finished training are whole until those of the next one are complete."""

import shutil
from pathlib import Path

from tiny_run import checkpoints, reschedule, start, train, wait_for

from tood.training.results import FILES, publish_interrupted, staging_folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_a_retraining_that_is_killed_leaves_the_old_results_whole(finished: Path) -> None:
    run = finished / "results/tiny/atss"
    shutil.rmtree(run / "state", ignore_errors=True)
    before = contents(run)
    reschedule(finished, lr=0.02, checkpoint_every=1)
    process = start(finished, "atss")
    wait_for(lambda: bool(checkpoints(finished)))
    process.kill()
    assert contents(run) == before
    said = train(finished, "atss")
    assert "continues after step" in said
    after = contents(run)
    assert all(after[name] != before[name] for name in FILES)
    assert b"lr: 0.02" in after["config.yaml"]
    assert not list(run.glob("state/*/finished"))


def test_what_was_cut_short_is_put_in_place_by_the_next_command(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_text("old")
    staged = staging_folder(tmp_path / "state", "0123")
    for name in FILES[2:]:  # the first two were moved before the kill
        (staged / name).write_text("new")
    for name in FILES[:2]:
        (tmp_path / name).write_text("new")
    publish_interrupted(tmp_path)
    assert {(tmp_path / name).read_text() for name in FILES} == {"new"}


def test_what_is_not_complete_is_not_put_in_place(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_text("old")
    (staging_folder(tmp_path / "state", "0123") / "model.pt").write_text("new")
    publish_interrupted(tmp_path)
    assert {(tmp_path / name).read_text() for name in FILES} == {"old"}
