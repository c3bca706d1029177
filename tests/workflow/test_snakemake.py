"""The real Snakemake on a tiny study: from nothing to the report, and no further."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from tiny_project import Project, planned

from tood.weights.model_file import load_model

RUN_FILES = {"config.yaml", "history.csv", "train.json", "model.pt", "metrics.json", "detections.json", "pr.csv"}
RUN_FILES |= {"thresholds.json"}
RUN_FILES |= {"alignment.json", "alignment.npz"}
STUDY_FILES = {
    "comparison.csv",
    "details.csv",
    "comparison.md",
    "comparison.tex",
    "report.html",
    "tracked.json",
    "figures",
}
STUDY_FILES |= {"alignment.csv", "alignment.md"}


def test_a_study_runs_to_its_report(finished: Project) -> None:
    results = finished.folder / "results/demo"
    assert {path.name for path in results.iterdir()} >= STUDY_FILES
    for run in ("tood", "atss"):
        assert {path.name for path in (results / run).iterdir()} >= RUN_FILES
    table = pd.read_csv(results / "comparison.csv")
    assert list(table.columns[:7]) == ["run", "AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert list(table["run"]) == ["tood", "atss"]
    assert table["AP"].between(0, 1).all()
    for run in ("tood", "atss"):
        metrics = json.loads((results / run / "metrics.json").read_text())
        assert table.set_index("run").loc[run, "AP50"] == pytest.approx(metrics["AP50"], abs=1e-6)
    page = (results / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(https?:)?//", page), "the report must need no network"
    assert page.count("data:image/png;base64,") >= 3
    assert "Alignment of score and IoU" in page


def test_a_finished_study_plans_the_next_one(finished: Project) -> None:
    said = finished.run("tood", "plan", "--study", "demo", "--difference", "5", status=2)
    assert "results/demo" in said
    assert "--seed-sd 1" in said, "one run a row does not show how AP varies from seed to seed"
    plan = finished.run("tood", "plan", "--study", "demo", "--difference", "5", "--seed-sd", "1", "--json")
    found = json.loads(plan[plan.index("{") :])
    assert (found["rows"], found["difference"], found["seed_sd"]) == (2, 0.05, 0.01)
    assert [one["rows"] for one in found["pairs"]] in ([["tood", "atss"]], [["atss", "tood"]])
    assert "not with --study" in finished.run("tood", "plan", "--study", "demo", "--images", "9", status=2)


def test_a_second_run_does_nothing(finished: Project) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished.folder / "results/demo").rglob("*.pt")}
    assert "Nothing to be done" in finished.snakemake()
    assert before == {path: path.stat().st_mtime_ns for path in (finished.folder / "results/demo").rglob("*.pt")}


def test_a_changed_run_retrains_that_run_alone(finished: Project) -> None:
    runs = {"tood": {"method": "tood"}, "atss": {"method": "atss", "overrides": {"schedule": {"lr": 0.02}}}}
    runs["tood"]["overrides"] = {"method": {"criterion": {"warmup_epochs": None, "warmup_share": 0.5}}}
    finished.edit("studies/demo", runs=runs)
    plan = finished.snakemake("-n", "--quiet", "host")
    jobs = planned(plan)
    assert (jobs["train"], jobs["evaluate"], jobs["analyse"], jobs["compare"]) == (1, 1, 1, 1)
    assert "prepare_data" not in jobs
    assert "results/demo/atss/model.pt" in plan


def test_published_numbers_redo_the_table_alone(finished: Project) -> None:
    plan = ("-n", "--quiet", "host")
    finished.edit("studies/demo", published="paper/table3")
    assert set(planned(finished.snakemake(*plan))) == {"all", "compare", "track", "total"}
    finished.snakemake()
    table = (finished.folder / "results/demo/comparison.md").read_text()
    assert "No published numbers stand here: those of paper/table3" in table, "they are for COCO"
    assert not planned(finished.snakemake(*plan))
    finished.edit("published/paper/table3", title="Read again")
    assert set(planned(finished.snakemake(*plan))) == {"all", "compare", "track", "total"}


def test_a_study_that_asks_for_no_analysis_is_only_compared_again(finished: Project) -> None:
    finished.edit("studies/demo", analysis=[])
    assert set(planned(finished.snakemake("-n", "--quiet", "host"))) == {"all", "compare", "track", "total"}


def test_analysis_is_of_what_the_study_has_now(finished: Project) -> None:
    run = ("tood", "analyse", "--run", "results/demo/atss", "--gpu", "0", "--threads", "1")
    before = json.loads((finished.folder / "results/demo/atss/alignment.json").read_text())
    assert before["detections"] == sum(before[name] for name in ("correct", "redundant", "error", "elsewhere"))
    finished.run(*run)
    assert json.loads((finished.folder / "results/demo/atss/alignment.json").read_text()) == before
    changed = {"method": "atss", "overrides": {"method": {"inference": {"nms_iou": 0.5}}}}
    tood = yaml.safe_load((finished.folder / "params/studies/demo.yaml").read_text())["runs"]["tood"]
    finished.edit("studies/demo", runs={"tood": tood, "atss": changed})
    said = finished.run(*run, status=2)
    assert "was evaluated with other settings than the study has now (nms_iou: 0.6 -> 0.5)" in said


def test_touching_changes_nothing(finished: Project) -> None:
    (finished.folder / "params/studies/demo.yaml").touch()
    os.utime(finished.folder / "data/shapes/dataset.json")
    assert "Nothing to be done" in finished.snakemake("-n")


def test_another_dataset_gives_results_of_its_own(fresh: Project) -> None:
    other = (fresh.folder / "params/datasets/shapes.yaml").read_text().replace("seed: 1", "seed: 7")
    (fresh.folder / "params/datasets/mine.yaml").write_text(other)
    fresh.snakemake("results/demo@mine/tood/metrics.json", "--config", "study=demo", "dataset=mine")
    assert (fresh.folder / "results/demo@mine/tood/metrics.json").is_file()
    assert not (fresh.folder / "results/demo").exists()


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (("study=dem",), "did you mean 'demo'?"),
        (("study=demo", "dataset=shape"), "did you mean 'shapes'?"),
        (("study=demo", "gpu=many"), "gpu=many: must be 'auto' or a whole number"),
        (("studdy=demo",), "there is no 'studdy'; did you mean 'study'?"),
    ],
)
def test_a_typo_is_refused_before_anything_starts(fresh: Project, config: tuple[str, ...], sentence: str) -> None:
    said = fresh.snakemake("--config", *config, status=1)
    assert sentence in said
    assert "Traceback" not in said
    assert not (fresh.folder / "results").exists()


def test_every_mistake_of_a_study_is_refused_at_once_in_a_line_of_its_own(fresh: Project) -> None:
    fresh.edit("studies/demo", baseline="ats", runs={"tood": {"method": "tod"}, "atss": {"method": "atss"}})
    lines = [line for line in fresh.snakemake("-n", status=1).splitlines() if "params/studies/demo.yaml: " in line]
    assert ["'runs.tood.method'" in lines[0], "'baseline'" in lines[1], len(lines)] == [True, True, 2]


@pytest.mark.parametrize(
    ("study", "runs", "total"),
    [("coco_1x", 3, 10), ("bccd", 9, 23), pytest.param("coco_tiny", 3, 11, marks=pytest.mark.long)],
)
def test_the_plan_of_every_study_can_be_shown(fresh: Project, study: str, runs: int, total: int) -> None:
    jobs = planned(fresh.snakemake("-n", "--config", f"study={study}"))
    assert jobs["total"] == total
    assert {name: jobs[name] for name in ("prepare_data", "train", "evaluate", "compare", "track")} == {
        "prepare_data": 1,
        "train": runs,
        "evaluate": runs,
        "compare": 1,
        "track": 1,
    }


def test_everything_killed_continues_with_the_same_command(fresh: Project) -> None:
    fresh.edit("schedules/demo", epochs=12, milestones=[8], checkpoint_every=1, evaluate_every=12)
    fresh.snakemake("data/pretrained/light.pt", "data/shapes/dataset.json")
    command = [str(Path(sys.executable).parent / "snakemake"), "results/demo/atss/model.pt", "--cores", "2"]
    process = subprocess.Popen(
        command, cwd=fresh.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    state = fresh.folder / "results/demo/atss/state"
    deadline = time.monotonic() + 120
    while not list(state.glob("*/step-*.pt")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(state.glob("*/step-*.pt")), "the run ended before it could be killed"
    said = fresh.snakemake("results/demo/atss/model.pt")
    assert "continues after step" in said
    assert (fresh.folder / "results/demo/atss/model.pt").is_file()


def test_a_corrupt_picture_is_named_and_made_again(fresh: Project) -> None:
    fresh.snakemake("data/shapes/dataset.json")
    picture = sorted((fresh.folder / "data/shapes/images/train").glob("*.jpg"))[3]
    picture.write_bytes(picture.read_bytes()[:200])
    fresh.snakemake("data/pretrained/light.pt")
    said = fresh.run("tood", "train", "--run", "results/demo/atss", status=2)
    assert f"data/shapes/images/train/{picture.name}: has changed" in said
    assert "tood data prepare shapes" in said
    said = fresh.snakemake("results/demo/atss/model.pt")
    assert f"data/shapes/images/train/{picture.name}: has changed" in said
    assert (fresh.folder / "results/demo/atss/model.pt").exists()


def test_predict_finds_what_evaluate_found(finished: Project) -> None:
    run = "results/demo/atss"
    out = finished.folder / "found"
    finished.run(
        "tood", "predict", "--run", run, "data/shapes/images/val", "--out", "found", "--gpu", "0", "--threads", "1"
    )
    predicted = json.loads((out / "detections.json").read_text())
    assert {path.name for path in out.glob("*.png")} == {f"{index:06d}.png" for index in range(6)}
    names = {image["id"]: image["file_name"] for image in predicted["images"]}
    annotations = json.loads((finished.folder / "data/shapes/annotations/val.json").read_text())
    known = {image["id"]: Path(image["file_name"]).name for image in annotations["images"]}
    evaluated = json.loads((finished.folder / run / "detections.json").read_text())

    def by_name(detections: list[dict[str, object]], ids: dict[int, str]) -> list[tuple[object, ...]]:
        return sorted((ids[one["image_id"]], one["category_id"], one["score"], *one["bbox"]) for one in detections)

    assert by_name(predicted["annotations"], names) == by_name(evaluated, known)
    assert evaluated


def test_another_study_takes_the_training_it_shares(finished: Project) -> None:
    first = yaml.safe_load((finished.folder / "params/studies/demo.yaml").read_text())
    again = {**first, "runs": {"same": first["runs"]["atss"], "other": {**first["runs"]["atss"], "seed": 7}}}
    again["baseline"] = "same"
    (finished.folder / "params/studies/again.yaml").write_text(yaml.safe_dump(again))
    finished.snakemake("results/demo/atss/metrics.json")  # whatever tests before this one left
    said = finished.run("tood", "train", "--run", "results/again/same", "--threads", "1")
    assert "same         is taken from results/demo/atss" in said
    results = finished.folder / "results"
    mine, theirs = (load_model(results / run / "model.pt") for run in ("again/same", "demo/atss"))
    assert mine.config.study == "again"
    for name, value in theirs.detector.state_dict().items():
        assert torch.equal(mine.detector.state_dict()[name], value)
    assert json.loads((results / "again/same/train.json").read_text())["taken_from"] == "results/demo/atss"
    assert "is taken from" not in finished.run("tood", "train", "--run", "results/again/other", "--threads", "1")
