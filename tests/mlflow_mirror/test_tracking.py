"""MLflow shows what the files say, exactly, however often and in whatever state it is mirrored."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow_store import client, only, stored

from tood.config.study import RunConfig
from tood.io.errors import UserError
from tood.io.read import read_yaml
from tood.io.write import write_yaml
from tood.mlflow_mirror.entries import find_studies, mirrored_runs, run_folders
from tood.mlflow_mirror.tracking import sync_study
from tood.reporting.comparison import ComparisonStudy

VALID_CONFIG = {
    "study": "cells",
    "run": "tood",
    "row": "tood",
    "seed": 0,
    "dataset": {"format": "voc", "name": "cells", "root": "/somewhere", "draw": {"val": 0.2}},
    "method": {
        "name": "tood",
        "head": {"kind": "task_aligned"},
        "criterion": {"kind": "task_aligned"},
    },
    "backbone": {"name": "resnet18", "kind": "resnet18"},
    "schedule": {"name": "short", "epochs": 12},
}
Make = Callable[..., ComparisonStudy]


def points(run: Any, key: str) -> list[tuple[int, int, float]]:
    history = client().get_metric_history(run.info.run_id, key)
    return sorted((metric.step, metric.timestamp, metric.value) for metric in history)


def files(run: Any) -> set[str]:
    root = Path(run.info.artifact_uri)
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_study_becomes_an_experiment_with_a_parent_and_a_run_per_model(make_study: Make, project: Path) -> None:
    study = make_study(name="cells@mine", images=8)
    folder = project / "results" / "cells@mine"
    (folder / "comparison.md").write_text("# Table\n")
    (folder / "figures").mkdir()
    shutil.copy(folder / "tood" / "samples" / "001.png", folder / "figures" / "cost.png")
    report = sync_study(project / "results", "cells@mine")
    assert report.created == ("cells@mine", "atss", "gfl", "tood")

    atss, parent, _, tood = stored("cells@mine")
    assert files(parent) == {"comparison.md", "figures/cost.png"}
    assert parent.data.tags["mlflow.note.content"] == "# Table\n"
    assert tood.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert files(tood) == {*("config.yaml", "train.json", "metrics.json", "history.csv", "pr.csv", "samples/001.png")}
    assert tood.info.status == "FINISHED"

    metrics, training = study.rows[2].runs[0].metrics(), study.rows[2].runs[0].training()
    assert tood.data.tags["tood.fingerprint"] == training.fingerprint
    assert tood.data.metrics["AP"] == metrics.AP
    assert tood.data.metrics["training_seconds"] == training.seconds
    history = study.rows[2].runs[0].history()
    assert points(tood, "train/loss_cls") == [
        (int(row.step), round(1000 * row.time), row.loss_cls) for row in history.itertuples()
    ]
    assert [step for step, _, _ in points(tood, "val/AP")] == list(range(1, 13))
    assert len(points(tood, "lr")) == len(history)
    assert tood.data.params.keys() == atss.data.params.keys()
    assert atss.data.params["method.head.centerness"] == "true"
    assert tood.data.params["method.head.centerness"] == "-"


def test_mirroring_again_changes_nothing(make_study: Make, project: Path) -> None:
    make_study(rows={"tood": ("tood", 0.8)}, images=6)
    sync_study(project / "results", "cells")
    before = [(run.to_dictionary(), points(run, "train/loss")) for run in stored("cells")]
    assert sync_study(project / "results", "cells").unchanged == ("cells", "tood")
    for run in stored("cells"):
        client().set_tag(run.info.run_id, "tood.content", "lost")
    report = sync_study(project / "results", "cells")
    assert (report.created, report.replaced) == ((), ())
    assert [(run.to_dictionary(), points(run, "train/loss")) for run in stored("cells")] == before


def test_unfinished_run_is_running_and_is_continued_in_place(make_study: Make, project: Path) -> None:
    study = make_study(rows={"tood": ("tood", 0.8)}, images=6)
    folder = study.rows[0].runs[0].path
    finished = {name: (folder / name).read_text() for name in ("history.csv", "metrics.json", "train.json")}
    (folder / "metrics.json").unlink()
    (folder / "history.csv").write_text("".join(finished["history.csv"].splitlines(keepends=True)[:21]))
    (folder / "train.json").unlink()
    write_yaml(folder / "config.yaml", VALID_CONFIG)
    fingerprint = RunConfig.model_validate(VALID_CONFIG).fingerprint
    sync_study(project / "results", "cells")
    first = only("cells", "tood")
    assert first.info.status == "RUNNING"
    assert first.data.tags["tood.fingerprint"] == fingerprint
    assert "AP" not in first.data.metrics
    assert len(points(first, "train/loss")) == 20

    finished["train.json"] = json.dumps({**json.loads(finished["train.json"]), "fingerprint": fingerprint})
    for name, text in finished.items():
        (folder / name).write_text(text)
    assert sync_study(project / "results", "cells").updated == ("cells", "tood")
    second = only("cells", "tood")
    assert second.info.run_id == first.info.run_id
    assert second.info.status == "FINISHED"
    assert second.info.start_time == first.info.start_time
    assert len(points(second, "train/loss")) == 48
    assert "AP" in second.data.metrics


def test_another_fingerprint_is_a_new_run_and_the_old_one_stays(make_study: Make, project: Path) -> None:
    study = make_study(rows={"tood": ("tood", 0.8)}, images=6)
    path = study.rows[0].runs[0].path / "train.json"
    sync_study(project / "results", "cells")
    path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "0" * 16}))
    report = sync_study(project / "results", "cells")
    assert report.created == ("tood",)
    assert [run.info.run_name for run in stored("cells")] == ["cells", "tood", "tood"]


def test_points_that_left_the_files_leave_the_mirror(make_study: Make, project: Path) -> None:
    study = make_study(rows={"tood": ("tood", 0.8)}, images=6)
    path = study.rows[0].runs[0].path / "history.csv"
    sync_study(project / "results", "cells")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[3:]]) + "\n")
    assert sync_study(project / "results", "cells").replaced == ("cells", "tood"), "it began later, too"
    found = points(only("cells", "tood"), "train/loss")
    assert [step for step, _, _ in found] == [int(line.split(",")[0]) for line in lines[3:]]


def test_artifacts_that_left_the_files_leave_the_mirror(make_study: Make, project: Path) -> None:
    study = make_study(rows={"tood": ("tood", 0.8)}, images=6)
    folder = project / "results" / "cells"
    (folder / "comparison.md").write_text("# Table\n")
    (folder / "report.html").write_text("<p>")
    sync_study(project / "results", "cells")
    (folder / "report.html").unlink()
    (study.rows[0].runs[0].path / "samples" / "001.png").unlink()
    report = sync_study(project / "results", "cells")
    assert report.replaced == ("cells", "tood")
    parent, tood = stored("cells")
    assert files(parent) == {"comparison.md"}
    assert files(tood) == {"config.yaml", "train.json", "metrics.json", "history.csv", "pr.csv"}
    assert tood.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert sync_study(project / "results", "cells").unchanged == ("cells", "tood")


def test_a_clock_that_was_put_back_changes_nothing(make_study: Make, project: Path) -> None:
    study = make_study(rows={"tood": ("tood", 0.8)}, images=6)
    path = study.rows[0].runs[0].path / "history.csv"
    history = pd.read_csv(path)
    history.loc[20:, "time"] -= 7200
    history.to_csv(path, index=False)
    sync_study(project / "results", "cells")
    assert [step for step, _, _ in points(only("cells", "tood"), "train/loss")] == list(history["step"])
    run = only("cells", "tood")
    assert run.info.start_time < run.info.end_time
    assert sync_study(project / "results", "cells").unchanged == ("cells", "tood")


def test_a_file_that_is_being_written_is_no_artifact(make_study: Make) -> None:
    run = make_study(rows={"tood": ("tood", 0.8)}, images=6).rows[0].runs[0]
    before = mirrored_runs("cells", [run])
    (run.path / "samples" / ".tood-half.png").write_bytes(b"half")
    assert mirrored_runs("cells", [run]) == before


def test_copied_project_keeps_its_artifacts_to_itself(
    make_study: Make, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    make_study(rows={"tood": ("tood", 0.8)}, images=6)
    sync_study(project / "results", "cells")
    clone = tmp_path_factory.mktemp("clone") / "project"
    shutil.copytree(project, clone)
    shutil.rmtree(clone / "mlruns")
    monkeypatch.chdir(clone)
    assert sync_study(Path("results"), "cells").created == ("cells", "tood")
    run = only("cells", "tood")
    assert Path(run.info.artifact_uri).is_relative_to(clone)
    assert "config.yaml" in files(run)


def test_address_comes_from_the_environment(
    make_study: Make, project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(rows={"tood": ("tood", 0.8)}, images=6)
    uri = f"sqlite:///{project}/elsewhere.db"
    shutil.copy(empty_store, project / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert sync_study(project / "results", "cells").tracking_uri == uri
    assert [run.info.run_name for run in stored("cells", uri)] == ["cells", "tood"]


def test_dead_server_is_one_sentence(make_study: Make, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(rows={"tood": ("tood", 0.8)}, images=6)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9 .*nothing is lost.*tood sync") as caught:
        sync_study(project / "results", "cells", "http://me:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_to_mirror_is_said(project: Path) -> None:
    with pytest.raises(UserError, match="no run"):
        sync_study(project / "results", "cells")


def test_two_at_once_on_a_fresh_store(make_study: Make, tmp_path: Path) -> None:
    make_study(rows={"tood": ("tood", 0.8)}, images=4)
    script = "from pathlib import Path\nfrom tood.mlflow_mirror.tracking import sync_study\n"
    script += "print(sync_study(Path('results'), 'cells').summary())"
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", script]
    both = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(out.splitlines()[-1].split(" in ")[0] for out, _ in said) == [
        "cells: 2 created",
        "cells: 2 unchanged",
    ]


def test_studies_are_found_by_their_runs(make_study: Make, tmp_path: Path) -> None:
    make_study(rows={"tood": ("tood", 0.8)}, images=4)
    results = tmp_path / "results"
    shutil.copytree(results / "cells", results / "paper" / "table3@cells")
    (results / "logs").mkdir()
    assert find_studies(results) == ["cells", "paper/table3@cells"]


def test_mirror_is_a_function_of_the_files(make_study: Make) -> None:
    study = make_study(images=6)
    folder = study.rows[0].runs[0].path.parent
    first, again = (mirrored_runs("cells", run_folders(folder)) for _ in range(2))
    assert first == again
    assert [run.digest() for run in first] == [run.digest() for run in again]
    (folder / "tood" / "config.yaml").write_text(
        (folder / "tood" / "config.yaml").read_text().replace("convs: 6", "convs: 5")
    )
    changed = mirrored_runs("cells", run_folders(folder))
    assert [a.digest() == b.digest() for a, b in zip(first, changed, strict=True)] == [True, True, False]


def test_names_of_any_kind_are_mirrored(make_study: Make, project: Path) -> None:
    """A data set's ``counts`` are by file; a study's rows and a class may be called anything."""
    make_study(name="cells", images=4)
    file = project / "results/cells/tood/config.yaml"
    config = read_yaml(file)
    config["row"] = "<img src=x onerror=alert(1)>\x1b[31m"
    config["dataset"]["classes"] = ["猫\u202e", *("name of a class" for _ in range(1000))]
    config["dataset"]["counts"] = {"a/../b (1)": 1, "a/../b [1]": 2, "猫" * 300: 3}
    write_yaml(file, config)
    assert sync_study(project / "results", "cells").created == ("cells", "atss", "gfl", "tood")
    run = only("cells", "tood")
    assert run.data.tags["tood.row"] == r"<img src=x onerror=alert(1)>\x1b[31m"
    assert run.data.params["dataset.classes"].startswith(r'["猫\u202e", "name')
    counts = {key: value for key, value in run.data.params.items() if key.startswith("dataset.counts.")}
    assert sorted(counts.values()) == ["1", "2", "3"]
    assert {"dataset.counts.a_.._b _1_", "dataset.counts.a_.._b _1_ 2"} < counts.keys()
    assert sync_study(project / "results", "cells").unchanged == ("cells", "atss", "gfl", "tood")
