"""A study is complete whatever becomes of the servers, clocks and tools around it."""

import os
import time
from pathlib import Path

import pytest
from surroundings import fill, make_read_only, mount, small_disk
from tiny_project import Project


def test_a_dead_tracking_server_costs_the_mirror_alone_and_the_next_command_makes_it(finished: Project) -> None:
    tracked = finished.folder / "results/demo/tracked.json"
    tracked.unlink()
    said = finished.snakemake(status=1, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert said.count("tood: MLflow at http://127.0.0.1:9 could not be written to") == 1
    assert "Traceback" not in said
    assert "step " not in said, "nothing was trained again"
    assert not tracked.exists(), "what was not done is not called done"
    finished.snakemake()
    assert tracked.exists()
    assert "Nothing to be done" in finished.snakemake()


@pytest.mark.parametrize("hours", [-30, pytest.param(30, marks=pytest.mark.long)])
def test_a_clock_that_jumps_redoes_no_training(finished: Project, hours: int) -> None:
    """As if it had jumped by so many hours after the data was made and before the runs were trained.

    Snakemake compares by content what is smaller than a limit, so one of the files is given the size of a real one.
    """
    with (finished.folder / "data/pretrained/light.pt").open("ab") as backbone:
        backbone.write(bytes(1_000_000))
    finished.snakemake("--touch")
    moved = time.time() + 3600 * hours
    inputs = [finished.folder / "data", finished.folder / "params"]
    for path in [file for folder in inputs for file in folder.rglob("*") if file.is_file()]:
        os.utime(path, (moved, moved))
    assert "train" not in finished.snakemake("-n", "--quiet", "host").split()


def test_results_that_may_not_be_written_are_named(fresh: Project, finished_template: Path) -> None:
    (fresh.folder / "data").symlink_to(finished_template / "data")
    with small_disk(fresh.folder / "results", "8m") as disk:
        make_read_only(disk)
        run = ("tood", "train", "--run", "results/demo/atss", "--threads", "1", "--gpu", "0")
        said = fresh.run(*run, status=2)
        assert "tood: results/demo/atss: cannot be written: Read-only file system" in said
        assert "Traceback" not in said


def test_a_disk_that_fills_up_during_training_costs_what_was_not_saved(fresh: Project, finished_template: Path) -> None:
    (fresh.folder / "data").symlink_to(finished_template / "data")
    run = ("tood", "train", "--run", "results/demo/atss", "--threads", "1", "--gpu", "0", "--log", "results/log")
    with small_disk(fresh.folder / "results", "3500k") as disk:
        said = fresh.run(*run, status=2)
        assert "step-000000008.pt: cannot be written: No space left on device; free some space" in said
        assert "Traceback" not in said
        assert not list(disk.rglob(".tood-*"))
        filler = fill(disk)
        assert "No space left on device" in fresh.run(*run, status=2)
        filler.unlink()
        mount(disk, "-o", "remount,size=30m")
        assert "continues after step 4" in fresh.run(*run)


def test_without_git_the_report_says_so(finished: Project) -> None:
    page = (finished.folder / "results/demo/report.html").read_text()
    assert "No commit is known: the project is not in a git repository." in page
