"""What is made again, and what is left as it is: judged by content, whatever files are named, touched or moved."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_project import Project, build_project

from tood.config.datasets import load_dataset
from tood.config.parts import code_of
from tood.config.study import Study, load_study
from tood.data.made_from import DataState, data_state
from tood.data.prepare import prepare_dataset
from tood.data.prepared import open_prepared
from tood.io.digests import file_digest
from tood.io.errors import UserError
from tood.training.results import staging_folder
from tood.verbs.twins import find_twin
from tood.weights.weights_digest import starting_weights_digest
from tood.workflow import standing
from tood.workflow.code_choice import CodeChoice
from tood.workflow.code_digest import code_behind
from tood.workflow.finished import expected_training, stays
from tood.workflow.plan import Plan
from tood.workflow.settings import read_settings
from tood.workflow.stamps import stamp_path
from tood.workflow.standing import training_standing

PARAMS, DATA, RESULTS = Path("params"), Path("data"), Path("results")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose data set is prepared and whose runs look finished."""
    folder = tmp_path_factory.mktemp("planned") / "project"
    build_project(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        prepare("shapes")
        (DATA / "pretrained").mkdir()
        (DATA / "pretrained/light.pt").write_bytes(b"weights")
        study = load_study("demo")
        for name in study.runs:
            look_finished(study, name)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    shutil.copytree(template, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    return Project(tmp_path / "project")


def prepare(name: str) -> None:
    config = load_dataset(name, PARAMS)
    code = code_behind("prepare")
    prepare_dataset(config, DATA / name, mirror=None, params_root=PARAMS, code=code)


def look_finished(study: Study, name: str, seconds: float = 3600.0) -> Path:
    """Write what a training and an evaluation of the run would leave, with numbers of no meaning."""
    run, folder = study.runs[name], RESULTS / study.name / name
    folder.mkdir(parents=True, exist_ok=True)
    prepared = open_prepared(DATA / study.dataset.name)
    (folder / "model.pt").write_bytes(b"model")
    (folder / "history.csv").write_text("step,epoch,time,lr,loss\n1,1,1,0.1,1\n")
    (folder / "config.yaml").write_text(yaml.safe_dump(run.model_dump(mode="json")))
    train = {
        "fingerprint": run.fingerprint,
        "data": prepared.digests.trained_on,
        "starting_weights": starting_weights_digest(run.backbone, DATA / "pretrained"),
        "code": code_behind("train", code_of(run.method)),
        "model": file_digest(folder / "model.pt"),
        "precision": "float32",
        "seconds": seconds,
    }
    inference = run.method.inference.model_dump(mode="json")
    measured = {"fingerprint": run.fingerprint, "model": train["model"], "split": study.split, "inference": inference}
    measured["data"] = prepared.digests.of_measurement(study.split)
    write(folder / "train.json", train)
    write(folder / "metrics.json", {**measured, "code": code_behind("evaluate")})
    write(folder / "alignment.json", {**measured, "code": code_behind("analyse")})
    return folder


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def change(path: Path, alter: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    alter(content)
    write(path, content)


def plan(**settings: object) -> Plan:
    found = Plan(load_study("demo"), read_settings(settings))
    found.refuse_loss()
    return found


def outdated(found: Plan) -> dict[str, list[str]]:
    """Why each outdated training is."""
    return {name: one.because() for name, one in found.trainings.items() if one.state == "outdated"}


def is_newer(rule: str, run: str = "", result: str = "results/demo/atss/train.json") -> bool:
    """Whether the stamp that Snakemake sees is newer than a result."""
    return stamp_path("demo", rule, run).stat().st_mtime > Path(result).stat().st_mtime


def test_finished_results_are_left_as_they_are_also_when_everything_is_touched(project: Project) -> None:
    found = plan()
    found.write_stamps()
    assert outdated(found) == {}
    assert not is_newer("train", "atss")
    assert not is_newer("evaluate", "atss")
    for path in project.folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and ".snakemake" not in path.parts:
            path.touch()
    (PARAMS / "studies/demo.yaml").write_text(f"# a comment\n{(PARAMS / 'studies/demo.yaml').read_text()}")
    (PARAMS / "datasets/shapes.yaml").write_text(f"# a comment\n{(PARAMS / 'datasets/shapes.yaml').read_text()}")
    found = plan()
    found.write_stamps()
    assert outdated(found) == {}
    assert not found.datasets["shapes"].problem


def test_a_changed_number_redoes_its_run_and_names_it(project: Project) -> None:
    runs = yaml.safe_load((PARAMS / "studies/demo.yaml").read_text())["runs"]
    runs["atss"]["overrides"] = {"schedule": {"lr": 0.02}}
    project.edit("studies/demo", runs=runs)
    found = plan()
    assert outdated(found) == {"atss": ["schedule.lr: 0.01 -> 0.02"]}
    found.write_stamps()
    assert is_newer("train", "atss")
    assert is_newer("evaluate", "atss")
    assert not is_newer("train", "tood")


def test_other_inference_is_only_evaluated_again(project: Project) -> None:
    runs = yaml.safe_load((PARAMS / "studies/demo.yaml").read_text())["runs"]
    runs["atss"]["overrides"] = {"method": {"inference": {"nms_iou": 0.5}}}
    project.edit("studies/demo", runs=runs)
    found = plan()
    found.write_stamps()
    assert outdated(found) == {}
    assert is_newer("evaluate", "atss")
    assert is_newer("analyse", "atss")
    assert not is_newer("evaluate", "tood")


def other_code(run: str, seconds: float) -> None:
    def alter(content: dict[str, Any]) -> None:
        content["code"]["tood.detection.losses"] = "0" * 16
        content["seconds"] = seconds

    change(RESULTS / "demo" / run / "train.json", alter)


def test_a_long_training_is_not_thrown_away_for_code_alone_without_asking(project: Project) -> None:
    other_code("atss", 3600.0)
    with pytest.raises(UserError) as refused:
        plan()
    for words in ("'demo'", "atss (60 minutes)", "tood.detection.losses", "code=keep", "code=new"):
        assert words in str(refused.value)
    kept = plan(code="keep")
    assert outdated(kept) == {}
    kept.write_stamps()
    assert not is_newer("train", "atss")
    assert json.loads(stamp_path("demo", "compare").read_text())["wanted"]["marks"] == {
        "atss": ["tood.detection.losses"]
    }
    assert outdated(plan()) == {}, "that is asked once"
    assert outdated(plan(code="new")) == {"atss": ["code: tood.detection.losses"]}
    stamp_path("demo", "kept").unlink()
    assert outdated(plan(code_minutes=61)) == {"atss": ["code: tood.detection.losses"]}


def test_a_short_training_is_trained_again_without_asking(project: Project) -> None:
    other_code("atss", 500.0)
    assert outdated(plan()) == {"atss": ["code: tood.detection.losses"]}
    with pytest.raises(UserError):
        plan(code_minutes=0)


def test_a_training_started_by_hand_asks_the_same(project: Project) -> None:
    other_code("atss", 3600.0)
    run = load_study("demo").run("atss")
    folder, expected = RESULTS / "demo/atss", expected_training(run, open_prepared(DATA / "shapes"), DATA)
    with pytest.raises(UserError, match=r"'demo'.*atss.*tood\.detection\.losses.*code=keep.*code=new"):
        stays(folder, expected, CodeChoice())
    assert stays(folder, expected, CodeChoice("keep")) is not None
    assert stays(folder, expected, CodeChoice("new")) is None
    assert stays(folder, expected, CodeChoice("ask", minutes=90)) is None


def test_an_edited_method_file_of_the_project_is_used_without_asking(project: Project) -> None:
    def alter(content: dict[str, Any]) -> None:
        content["code"]["extensions/mine.py"] = "0" * 16

    change(RESULTS / "demo/atss/train.json", alter)
    assert outdated(plan()) == {"atss": ["code: extensions/mine.py"]}


def test_code_that_evaluates_redoes_evaluations_alone(project: Project) -> None:
    change(
        RESULTS / "demo/atss/metrics.json",
        lambda content: content["code"].update({"tood.evaluation.coco_matching": "0" * 16}),
    )
    found = plan()
    found.write_stamps()
    assert outdated(found) == {}
    assert is_newer("evaluate", "atss")
    plan(code="keep").write_stamps()
    assert not is_newer("evaluate", "atss")


def test_starting_weights_count_by_their_content(project: Project) -> None:
    weights = DATA / "pretrained/light.pt"
    weights.touch()
    assert outdated(plan()) == {}
    weights.write_bytes(b"others")
    assert outdated(plan()) == {run: ["its starting weights changed"] for run in ("tood", "atss")}


def test_a_training_whose_files_were_being_replaced_is_not_taken_for_finished(project: Project) -> None:
    """The new configuration may be in place while the model is still the old one."""
    staged = staging_folder(RESULTS / "demo/atss/state", "0123456789abcdef")
    (staged / "model.pt").write_bytes(b"new model")
    assert outdated(plan()) == {}, "a training goes on, and its results are not complete"
    (staged / "train.json").write_text("{}")
    assert outdated(plan()) == {"atss": ["its new files are not all in place"]}


def test_results_of_the_version_before_are_recognised(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """It kept neither digests of modules nor of pictures, and called a field of the backbone otherwise."""
    files = [path for run in load_study("demo", PARAMS).runs.values() for path in code_of(run.method)]
    first = code_behind("train", files) | code_behind("evaluate", files) | code_behind("analyse", files)
    monkeypatch.setattr(standing, "_first_digests", lambda: first)  # as if no code had changed since
    prepared = open_prepared(DATA / "shapes")
    for run in ("tood", "atss"):
        folder = RESULTS / "demo" / run
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["backbone"]["trunk_width"] = config["backbone"].pop("first_stage_width")
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        for name in ("train.json", "metrics.json", "alignment.json"):
            content = json.loads((folder / name).read_text())
            content["fingerprint"] = "0123456789abcdef"
            for key in ("model", "starting_weights", "code", *(["data"] if name != "train.json" else [])):
                content.pop(key, None)
            if name == "train.json":
                content |= {"data": prepared.fingerprint, "code": "fedcba9876543210"}
            write(folder / name, content)
    change(DATA / "shapes/dataset.json", lambda content: [content.pop(key) for key in ("content", "code")])
    found = plan()
    found.write_stamps()
    assert outdated(found) == {}
    assert found.datasets["shapes"].is_upgrade, "its pictures are read once, for their digests"
    assert not is_newer("evaluate", "atss")
    prepare("shapes")
    assert outdated(plan()) == {}
    assert not plan().datasets["shapes"].problem


# The user's own data


def draw_own(root: Path, layout: str) -> None:
    rng = np.random.default_rng(0)
    for split, numbers in (("train", range(6)), ("val", range(6, 8))):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for number in numbers:
            pixels = rng.integers(0, 255, (48, 64, 3), np.uint8)
            Image.fromarray(pixels).save(root / "images" / split / f"img{number:02d}.png")
            (root / "labels" / split / f"img{number:02d}.txt").write_text(f"{number % 2} 0.5 0.5 0.4 0.5\n")
    (root / "data.yaml").write_text("names: [cat, dog]\n")
    del layout


@pytest.fixture
def own(project: Project, tmp_path: Path) -> Path:
    """A YOLO data set of the user's own, prepared by hand, with finished runs of demo@mine."""
    root = tmp_path / "own"
    draw_own(root, "yolo")
    describe(root)
    prepare("mine")
    study = load_study("demo@mine")
    for name in study.runs:
        look_finished(study, name)
    return root


def describe(root: Path) -> None:
    content = {"format": "yolo", "root": str(root), "splits": {"train": "images/train", "val": "images/val"}}
    (PARAMS / "datasets/mine.yaml").write_text(yaml.safe_dump(content))


def own_plan() -> Plan:
    found = Plan(load_study("demo@mine"), read_settings({}))
    found.refuse_loss()
    return found


def state() -> DataState:
    return data_state(load_dataset("mine", PARAMS), DATA / "mine", PARAMS)


def test_a_corrected_label_is_noticed_and_named_also_when_prepared_by_hand(own: Path) -> None:
    assert outdated(own_plan()) == {}
    label = own / "labels/train/img01.txt"
    status = label.stat()
    label.write_text("0 0.5 0.5 0.4 0.5\n")
    os.utime(label, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert state().problem == f"{label}: has changed since data/mine was prepared"
    found = own_plan()
    assert outdated(found) == {run: [state().problem] for run in ("tood", "atss")}
    prepare("mine")
    assert not state().problem
    assert outdated(own_plan()) == {run: ["its data set changed"] for run in ("tood", "atss")}


@pytest.mark.parametrize("kind", ["picture", "new picture", "new label", "gone"])
def test_so_are_pictures_and_files_that_come_and_go(own: Path, kind: str) -> None:
    (own / "labels/train/img02.txt").unlink()
    prepare("mine")
    for name in ("tood", "atss"):
        look_finished(load_study("demo@mine"), name)
    if kind == "picture":
        changed = own / "images/train/img00.png"
        Image.new("RGB", (64, 48), (0, 90, 0)).save(changed)
    elif kind == "new picture":
        changed = own / "images/train/img09.png"
        Image.new("RGB", (64, 48)).save(changed)
    elif kind == "new label":
        changed = own / "labels/train/img02.txt"
        changed.write_text("1 0.5 0.5 0.4 0.5\n")
    else:
        changed = own / "images/train/img03.png"
        changed.unlink()
    assert str(changed) in state().problem
    assert set(outdated(own_plan())) == {"tood", "atss"}


def test_data_that_moved_was_touched_or_has_an_editors_lock_redoes_nothing(own: Path, tmp_path: Path) -> None:
    (own / "labels/train/.#img00.txt").symlink_to("nobody@nowhere.1")
    (own / "labels/train/img00.txt~").symlink_to("nowhere")
    (own / "notes.md").write_text("not of the data")
    for path in own.rglob("*.txt"):
        if path.is_file():
            path.touch()
    assert not state().problem
    assert outdated(own_plan()) == {}
    moved = tmp_path / "elsewhere"
    own.rename(moved)
    describe(moved)
    assert not state().problem
    assert outdated(own_plan()) == {}
    assert open_prepared(DATA / "mine").split("train").images == moved


def test_a_label_that_says_the_same_otherwise_ends_the_cascade(own: Path) -> None:
    label = own / "labels/train/img01.txt"
    label.write_text("1   0.50 0.5 0.4 0.500\n")
    assert "img01.txt" in state().problem
    before = open_prepared(DATA / "mine").content
    prepare("mine")
    assert open_prepared(DATA / "mine").content == before
    assert outdated(own_plan()) == {}


def test_content_behind_a_link_counts(own: Path, tmp_path: Path) -> None:
    target = tmp_path / "linked.txt"
    target.write_text("1 0.5 0.5 0.4 0.5\n")
    label = own / "labels/train/img01.txt"
    label.unlink()
    label.symlink_to(target)
    assert not state().problem, "the same content"
    target.write_text("0 0.5 0.5 0.4 0.5\n")
    assert state().problem == f"{label}: has changed since data/mine was prepared"


def test_a_twin_is_taken_only_where_the_pictures_are_the_same(own: Path) -> None:
    run = load_study("demo@mine").run("atss")
    other = RESULTS / "again/atss"
    expected = expected_training(run, open_prepared(DATA / "mine"), DATA)
    assert find_twin(RESULTS, other, expected, "float32") == RESULTS / "demo@mine/atss"
    assert find_twin(RESULTS, other, expected, "bf16") is None
    Image.new("RGB", (64, 48), (0, 90, 0)).save(own / "images/train/img00.png")
    prepare("mine")
    expected = expected_training(run, open_prepared(DATA / "mine"), DATA)
    assert find_twin(RESULTS, other, expected, "float32") is None


def test_content_is_read_again_only_where_size_or_time_moved(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    past = time.time() - 60
    for path in own.rglob("*"):
        os.utime(path, (past, past))
    assert not state().problem
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return file_digest(path)

    monkeypatch.setattr("tood.io.digests.file_digest", counted)
    assert not state().problem
    assert read == []
    (own / "images/train/img00.png").touch()
    assert not state().problem
    assert read == [own / "images/train/img00.png"]


def test_a_test_split_leaves_trainings_as_they_are(project: Project) -> None:
    """Added later, labelled better or measured on: nothing that a training reads."""
    file = PARAMS / "datasets/shapes.yaml"
    described = yaml.safe_load(file.read_text())
    described["splits"]["test"] = {"images": 3, "seed": 7}
    file.write_text(yaml.safe_dump(described, sort_keys=False))
    prepare("shapes")
    assert outdated(plan()) == {}
    found = plan()
    found.write_stamps()
    assert not is_newer("evaluate", "atss"), "measured on val, which is the same"

    with_test = Plan(replace(load_study("demo"), split="test"), read_settings({}))
    assert with_test._measured("atss")["evaluate"] == ["split: val -> test"]
    look_finished(replace(load_study("demo"), split="test"), "atss")
    assert with_test._measured("atss")["evaluate"] == []
    described["splits"]["test"] = {"images": 3, "seed": 8}
    file.write_text(yaml.safe_dump(described, sort_keys=False))
    prepare("shapes")
    redone = Plan(replace(load_study("demo"), split="test"), read_settings({}))
    assert outdated(redone) == {}
    assert redone._measured("atss")["evaluate"] == ["its split test changed"]


def test_the_split_that_thresholds_are_chosen_on_is_measured_too(project: Project) -> None:
    digests = open_prepared(DATA / "shapes").digests
    assert list(digests.of_measurement("val")) == ["val"]
    assert list(digests.of_measurement("train")) == ["train", "val"]


def test_an_evaluation_of_an_earlier_version_counts_with_the_data_its_training_names(project: Project) -> None:
    change(RESULTS / "demo/atss/metrics.json", lambda content: content.pop("data"))
    assert plan()._measured("atss")["evaluate"] == []
    change(RESULTS / "demo/atss/train.json", lambda content: content.update(data="0123"))
    assert "its data set changed" in plan()._measured("atss")["evaluate"]


def test_data_prepared_by_an_earlier_version_are_read_once_for_the_digests_of_their_splits(project: Project) -> None:
    def forget(content: dict[str, Any]) -> None:
        del content["trained_on"]
        for split in content["splits"].values():
            del split["content"]

    content = open_prepared(DATA / "shapes").content
    change(DATA / "shapes/dataset.json", forget)
    for name in ("tood", "atss"):
        change(RESULTS / "demo" / name / "train.json", lambda kept: kept.update(data=content))
    found = plan()
    assert found.datasets["shapes"].is_upgrade
    assert outdated(found) == {}
    found.upgrade_data(prepare)
    assert outdated(plan()) == {}
    assert open_prepared(DATA / "shapes").trained_on


def test_a_standing_says_what_it_is_judged_by(project: Project) -> None:
    run = load_study("demo").run("atss")
    expected = expected_training(run, open_prepared(DATA / "shapes"), DATA)
    standing = training_standing(RESULTS / "demo/atss", expected)
    assert (standing.state, standing.seconds) == ("current", 3600.0)
    (RESULTS / "demo/atss/model.pt").unlink()
    assert training_standing(RESULTS / "demo/atss", expected).state == "missing"
