"""MLflow follows trainings while they run, and is then what a mirroring afterwards makes it."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from logged_model import give_model, record
from mlflow_store import client, only, stored
from simulated_results import build_study
from test_tracking import VALID_CONFIG, points

from tood.config.study import RunConfig
from tood.io.write import write_text, write_yaml
from tood.mlflow_mirror import store
from tood.mlflow_mirror.tracking import sync_study
from tood.verbs.follow import follow

RESULTS = Path("results")
RUN = RESULTS / "cells/tood"
LATER = ("metrics.json", "train.json", "thresholds.json", "model.pt", "pr.csv")


@contextmanager
def following() -> Iterator[threading.Thread]:
    """``tood sync --follow`` as a workflow runs it, which ends after the block; in a thread, to begin at once."""
    reads, writes = os.pipe()
    with os.fdopen(reads) as pipe, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", pipe)
        patch.setattr(os, "nice", lambda _: 0)
        patch.setattr("tood.verbs.follow._PAUSE", 0.2)
        patch.setattr("tood.verbs.follow._SHARE", 1.0)
        patch.setenv("TOOD_WORKFLOW", str(os.getpid()))
        thread = threading.Thread(target=follow, args=["cells", None], kwargs={"models": True}, daemon=True)
        thread.start()
        try:
            yield thread
        finally:
            os.close(writes)
            thread.join(60)
        assert not thread.is_alive()


def until(condition: Callable[[], Any]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(condition)


def evaluations() -> list[int]:
    """Epochs whose AP is in MLflow."""
    if client().get_experiment_by_name("cells") is None:
        return []
    runs = [run for run in stored("cells") if run.info.run_name == "tood"]
    return [step for run in runs for step, _, _ in points(run, "val/AP")]


@pytest.fixture
def under_way(project: Path) -> Callable[[int], None]:
    """A run that has just begun; called with a number of rows, its history has so many, and is complete with all 48."""
    build_study(project, rows={"tood": ("tood", 0.8)}, images=4)
    give_model(RUN)
    write_yaml(RUN / "config.yaml", VALID_CONFIG)
    record(RUN / "train.json", fingerprint=RunConfig.model_validate(VALID_CONFIG).fingerprint)
    lines = (RUN / "history.csv").read_text().splitlines(keepends=True)
    later = {name: (RUN / name).read_bytes() for name in LATER}
    for name in LATER:
        (RUN / name).unlink()

    def write(rows: int) -> None:
        write_text(RUN / "history.csv", "".join(lines[: 1 + rows]))
        if rows == 48:
            for name, content in later.items():
                (RUN / name).write_bytes(content)

    write(0)
    return write


def test_each_evaluation_is_in_mlflow_soon_and_the_end_is_exact(under_way: Callable[[int], None]) -> None:
    with following() as thread:
        under_way(4)
        until(lambda: evaluations() == [1])
        first = only("cells", "tood")
        assert first.info.status == "RUNNING"
        assert thread.is_alive()
        under_way(12)
        until(lambda: evaluations() == [1, 2, 3])
        under_way(48)
    last = only("cells", "tood")
    assert last.info.run_id == first.info.run_id
    assert last.info.status == "FINISHED"
    assert evaluations() == list(range(1, 13))
    before = [run.to_dictionary() for run in stored("cells")]
    assert sync_study(RESULTS, "cells").unchanged == ("cells", "tood")
    assert [run.to_dictionary() for run in stored("cells")] == before


def test_a_server_that_is_away_is_said_once_and_ends_nothing(
    under_way: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    asked: list[str] = []
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setattr(store, "_reach", lambda uri: asked.append(uri) or _raise(ConnectionError("it cannot be reached")))
        under_way(4)
        with following() as thread:
            until(lambda: len(asked) > 2)
            under_way(8)
            assert thread.is_alive()
    assert len(said) == 1
    assert said[0].startswith("MLflow at http://127.0.0.1:9 could not be written to (it cannot be reached)")
    assert sync_study(RESULTS, "cells").created == ("cells", "tood")


def _raise(error: Exception) -> None:
    raise error


def test_a_run_without_a_row_is_no_run_yet(under_way: Callable[[int], None]) -> None:
    build_study(Path("other"), rows={"atss": ("atss", 0.8)}, images=4)
    (Path("other") / "results/cells/atss").rename(RESULTS / "cells/atss")
    assert sync_study(RESULTS, "cells").created == ("cells", "atss")
    under_way(1)
    assert sync_study(RESULTS, "cells").created == ("tood",)


def test_a_training_of_another_configuration_is_followed_beside_its_results(under_way: Callable[[int], None]) -> None:
    under_way(48)
    sync_study(RESULTS, "cells")
    results = only("cells", "tood").info.run_id
    changed = {**VALID_CONFIG, "seed": 7}
    fingerprint = RunConfig.model_validate(changed).fingerprint
    state = RUN / "state" / fingerprint
    write_yaml(state / "config.yaml", changed)
    rows = (RUN / "history.csv").read_text().splitlines(keepends=True)
    write_text(state / "history.csv", "".join(rows[:9]))
    assert sync_study(RESULTS, "cells").created == ("tood",)
    running = next(run for run in stored("cells") if run.data.tags.get("tood.fingerprint") == fingerprint)
    assert (running.info.status, running.info.run_name) == ("RUNNING", "tood")
    assert running.data.tags["mlflow.parentRunId"] == next(
        run.info.run_id for run in stored("cells") if run.info.run_name == "cells"
    )
    assert sync_study(RESULTS, "cells").unchanged == ("cells", "tood", "tood")
    # It ends: its files take the place of the results, and it is the same run of MLflow.
    write_yaml(RUN / "config.yaml", changed)
    record(RUN / "train.json", fingerprint=fingerprint)
    assert "tood" in sync_study(RESULTS, "cells").updated
    ended = next(run for run in stored("cells") if run.data.tags.get("tood.fingerprint") == fingerprint)
    assert ended.info.run_id == running.info.run_id
    assert ended.info.status == "FINISHED"
    assert results in [run.info.run_id for run in stored("cells")]


def test_the_load_of_the_machine_is_shown_where_it_was_measured(under_way: Callable[[int], None]) -> None:
    under_way(48)
    sync_study(RESULTS, "cells")
    assert not [key for key in only("cells", "tood").data.metrics if key.startswith("system/")]
    (RUN / "system.csv").write_text(
        "time,cpu_utilization_percentage,gpu_0_power_usage_watts\n1700000001.5,50.0,300\n1700000011.5,7\nx,y,z\n"
        "1700000021.5,75.0,310\n1700000031.5,75."
    )
    assert sync_study(RESULTS, "cells").updated == ("tood",)
    assert points(only("cells", "tood"), "system/cpu_utilization_percentage") == [
        (0, 1700000001500, 50.0),
        (1, 1700000021500, 75.0),
    ]
    assert sync_study(RESULTS, "cells").unchanged == ("cells", "tood")
