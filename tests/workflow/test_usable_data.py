"""Data that cannot be trained on or scored are refused before the first step; what is left out is said."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from tiny_project import Project, build_project

from tood.config.study import Study, load_study
from tood.data.prepared import open_prepared
from tood.data.split_table import SplitTable
from tood.io.digests import file_digest
from tood.io.errors import UserError
from tood.training.processes.machine import Machine
from tood.verbs.check_data import check
from tood.verbs.opening import say_what_is_used
from tood.verbs.prepare_data import prepare
from tood.verbs.train import train
from tood.verbs.usable_data import refuse_unusable, usable_data
from tood.workflow.code_choice import CodeChoice
from tood.workflow.plan import Plan
from tood.workflow.settings import read_settings
from tood.workflow.standing import Standing

PARAMS, DATA, RESULTS = Path("params"), Path("data"), Path("results")
CAT, DOG = 0, 1
Boxes = Sequence[tuple[int, float, float, float, float]]
"""Class, centre, width and height in px."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_project(tmp_path_factory.mktemp("usable") / "project").folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project without data; the runs start from random weights."""
    shutil.copytree(template, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    found = Project(tmp_path / "project")
    found.edit("backbones/light", weights="none")
    return found


def write_own(images: dict[str, tuple[tuple[int, int], Boxes | None]], **described: Any) -> Path:
    """A YOLO data set ``mine`` of pictures ``<split>/<name>`` with a size (w, h) and boxes; None: no label file."""
    root = Path("own")
    for number, (name, ((width, height), boxes)) in enumerate(images.items()):
        picture, label = root / "images" / f"{name}.png", root / "labels" / f"{name}.txt"
        picture.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height), (number, 0, 0)).save(picture)
        if boxes is not None:
            lines = [f"{k} {x / width} {y / height} {w / width} {h / height}\n" for k, x, y, w, h in boxes]
            label.write_text("".join(lines))
    (root / "data.yaml").write_text("names: [cat, dog]\n")
    splits = dict.fromkeys(name.split("/")[0] for name in images)
    content = {"format": "yolo", "root": "own", "splits": {split: f"images/{split}" for split in splits}, **described}
    (PARAMS / "datasets/mine.yaml").write_text(yaml.safe_dump(content))
    return root


SOUND = ((64, 64), [(CAT, 20, 20, 20, 20), (DOG, 45, 45, 20, 20)])


def study_of(reference: str = "demo@mine") -> Study:
    return load_study(reference, PARAMS)


def start(reference: str = "demo@mine") -> None:
    """What a Snakemake asks before it plans anything."""
    refuse_unusable(Plan(study_of(reference), read_settings({})))


def train_atss(reference: str = "demo@mine") -> None:
    machine = Machine(gpu="0", processes=1, threads=1, workers=0, accumulate=None, nodes=1, rendezvous=None)
    train(RESULTS / reference / "atss", machine, 1, CodeChoice("ask", 10.0), [])


def sentence(reference: str = "demo@mine") -> str:
    config = study_of(reference).run("atss")
    return usable_data(config, open_prepared(DATA / "mine")).targets.sentence()


def unscored_val() -> None:
    """Make all objects of the prepared val split crowd regions, as an earlier version may have let pass."""
    annotations = open_prepared(DATA / "mine").split("val").annotations
    content = json.loads(annotations.read_text())
    content["annotations"] = [{**one, "iscrowd": 1} for one in content["annotations"]]
    annotations.write_text(json.dumps(content))
    flat = annotations.with_suffix(".npz")
    SplitTable.of_json(annotations).write_flat(flat)
    entry = json.loads((DATA / "mine/dataset.json").read_text())
    entry["splits"]["val"] |= {"table_sha256": file_digest(flat), "sha256": file_digest(annotations)}
    (DATA / "mine/dataset.json").write_text(json.dumps(entry))


# No target at all


def test_objects_that_vanish_by_the_resize_are_refused_before_anything_is_written(project: Project) -> None:
    write_own({name: ((2000, 1500), [(CAT, 500, 400, 18, 18)]) for name in ("train/a", "train/b", "val/c")})
    prepare("mine", None)
    for begin in (train_atss, start):
        with pytest.raises(UserError) as caught:
            begin()
        said = str(caught.value)
        assert "all 2 are below 1 px" in said
        assert "schedule.images of 'demo'" in said
        assert "tiles" in said
    assert not list((RESULTS / "demo@mine").glob("*/state/*/")), "no folder of checkpoints"


def test_larger_images_are_the_remedy(project: Project) -> None:
    write_own({name: ((2000, 1500), [(CAT, 500, 400, 18, 18)]) for name in ("train/a", "train/b", "val/c")})
    prepare("mine", None)
    project.edit("schedules/demo", images={"short": 64, "long": 64, "jitter": [64, 300]})
    with pytest.raises(UserError, match=r"at most 64 px .* below 1 px"):
        start()
    project.edit("schedules/demo", images={"short": 64, "long": 400, "jitter": [64, 300]})
    start()
    assert (
        sentence() == "2 images, 0 to 2 objects; left out: 0 to 2 objects below 1 px at shorter sides of 300 to 64 px"
    )


def test_a_finished_run_is_not_asked_about_its_data(project: Project) -> None:
    write_own({"train/a": SOUND, "val/c": SOUND})
    prepare("mine", None)
    unscored_val()
    found = Plan(study_of(), read_settings({}))
    with pytest.raises(UserError, match="split 'val'"):
        refuse_unusable(found)
    found.trainings = dict.fromkeys(found.trainings, Standing("current"))
    refuse_unusable(found)


# A split that cannot be scored


def test_val_without_objects_is_refused_by_check_and_prepare(project: Project, said: list[str]) -> None:
    write_own({"train/a": SOUND, "val/c": ((64, 64), None)})
    assert not check("mine", None, None)
    assert any("split 'val' has no objects at all" in line for line in said if line.startswith("error"))
    with pytest.raises(UserError, match="split 'val' has no objects at all"):
        prepare("mine", None)
    assert not (DATA / "mine/dataset.json").exists()


def test_other_splits_without_objects_are_a_note_unless_the_study_compares_on_them(
    project: Project, said: list[str]
) -> None:
    write_own({"train/a": SOUND, "val/c": SOUND, "test/d": ((64, 64), None)})
    prepare("mine", None)
    assert check("mine", None, None)
    assert any("split 'test' has no objects at all" in line for line in said if line.startswith("note"))
    start()
    project.edit("studies/demo", split="test")
    for begin in (start, train_atss):
        with pytest.raises(UserError) as caught:
            begin()
        assert str(caught.value).startswith("params/datasets/mine.yaml: split 'test', which study 'demo@mine' compares")
    said.clear()
    assert not check("mine", None, None, "demo")
    assert any("split 'test'" in line for line in said if line.startswith("error"))


def test_val_that_an_earlier_version_prepared_is_refused_by_the_start_and_the_training(project: Project) -> None:
    write_own({"train/a": SOUND, "val/c": SOUND})
    prepare("mine", None)
    unscored_val()
    for begin in (start, train_atss):
        with pytest.raises(
            UserError, match=r"mine.yaml: split 'val', which trainings are measured on, .*crowd regions"
        ):
            begin()


# Background


BACKGROUND = {
    "train/a": SOUND,
    "train/empty": ((64, 64), None),
    "train/small": ((24, 24), [(CAT, 12, 12, 10, 10)]),
    "val/c": SOUND,
}


@pytest.mark.parametrize(
    ("schedule", "dataset", "dropped"),
    [(True, None, False), (True, True, True), (True, False, False), (False, None, False), (False, True, True)],
)
def test_own_data_keep_their_background_unless_they_say_otherwise(
    project: Project, said: list[str], schedule: bool, dataset: bool | None, dropped: bool
) -> None:
    write_own(BACKGROUND, **({} if dataset is None else {"drop_empty": dataset}))
    project.edit("schedules/demo", drop_empty=schedule)
    study = study_of()
    config = study.run("atss")
    assert config.schedule.drop_empty is dropped
    assert config.science()["schedule"]["drop_empty"] is dropped
    check("mine", None, None)
    use = "left out of training, for drop_empty is true" if dataset else "used as background"
    assert f"note   split 'train': 1 of 3 images without objects ({use})" in said
    prepare("mine", None)
    found = usable_data(config, open_prepared(DATA / "mine"))
    said.clear()
    say_what_is_used(study, config, found)
    if dropped:
        assert said[0].endswith(
            "1 image, 2 objects; left out: 1 object of images left out, 1 image without objects (drop_empty), "
            "1 image with a side below 32 px (drop_empty)"
        )
    else:
        assert said[0].endswith("3 images (1 as background), 3 objects")
    kept = [line for line in said[1:] if "keeps 1 image without objects and 1 image with a side below 32 px" in line]
    assert bool(kept) == (schedule and not dropped)
    assert all("drop_empty: true' in params/datasets/mine.yaml" in line for line in kept)


def test_the_choice_makes_no_prepared_data_outdated(project: Project) -> None:
    write_own(BACKGROUND)
    prepare("mine", None)
    before = (DATA / "mine/dataset.json").read_bytes()
    write_own(BACKGROUND, drop_empty=True)
    assert not Plan(study_of(), read_settings({})).datasets["mine"].problem
    prepare("mine", None)
    assert (DATA / "mine/dataset.json").read_bytes() == before
    shutil.rmtree(DATA / "mine")
    prepare("mine", None)
    assert json.loads((DATA / "mine/dataset.json").read_text())["fingerprint"] == json.loads(before)["fingerprint"]


@pytest.mark.parametrize("study", ["bccd", "coco_tiny", "coco_1x", "paper/table3", "demo"])
def test_data_with_a_source_do_as_the_schedule_says(project: Project, study: str) -> None:
    found = study_of(study)
    written = {name: yaml.safe_load(path.read_text()) for name, path in _schedules().items()}
    for run in found.runs.values():
        assert run.schedule.drop_empty is written[run.schedule.name].get("drop_empty", False)
    assert not found.keeping_background


def _schedules() -> dict[str, Path]:
    return {path.stem: path for path in (PARAMS / "schedules").glob("*.yaml")}


def test_data_with_a_source_may_decide_too(project: Project) -> None:
    project.edit("datasets/coco2017", drop_empty=False)
    found = study_of("coco_1x")
    assert not any(run.schedule.drop_empty for run in found.runs.values())
    assert found.keeping_background == set(found.runs)


# The check of a study


def test_check_says_what_a_study_makes_of_the_data(project: Project, said: list[str]) -> None:
    tiny = [(DOG, 100.0 * k + 50, 450, 6, 6) for k in range(3)]
    write_own({"train/a": ((640, 640), [(CAT, 300, 200, 200, 200), *tiny]), "val/c": ((640, 640), tiny)})
    assert check("mine", None, None), "without a study nothing is wrong"
    assert not any("network" in line for line in said)
    said.clear()
    assert not check("mine", None, None, "demo")
    assert "  train  1 image, 1 object; left out: 3 objects below 1 px at this size" in said
    assert (
        "  train  4 objects, by their shorter side in the network's input: 3 below 1 px, 3 below 4 px, 3 below 8 px"
        in said
    )
    assert (
        "  val    3 objects, by their shorter side in the network's input: 3 below 1 px, 3 below 4 px, 3 below 8 px"
        in said
    )
    (error,) = [line for line in said if line.startswith("error")]
    assert "schedule 'demo'" in error
    assert "class 'dog' has 3 annotations in train, but no target" in error


def test_a_class_whose_objects_contain_no_location_is_an_error_for_methods_that_need_one(
    project: Project, said: list[str]
) -> None:
    between = [(DOG, 20.0, 20, 6, 6)]  # 17 to 23 px: no multiple of 8, nor of a mirrored one
    write_own({"train/a": ((64, 64), [(CAT, 40, 40, 20, 20), *between]), "val/c": SOUND})
    assert not check("mine", None, None, "demo")
    (error,) = [line for line in said if line.startswith("error")]
    assert "class 'dog' is never learned by runs tood, atss" in error
    assert any("1 object without a location" in line for line in said)
    project.edit("studies/demo", baseline="pisa", runs={"pisa": {"method": "pisa"}})
    assert check("mine", None, None, "demo"), "its anchors need no centre inside"
    project.edit("studies/demo", baseline="atss", runs={"atss": {"method": "atss"}})
    project.edit("schedules/demo", images={"short": 64, "long": 90, "jitter": [64, 90]})
    assert check("mine", None, None, "demo"), "at some size that is drawn a location lies inside"


def test_mirroring_may_reach_a_class(project: Project) -> None:
    write_own({"train/a": ((60, 64), [(CAT, 40, 40, 20, 20), (DOG, 39, 24, 3, 6)]), "val/c": SOUND})
    project.edit("schedules/demo", images={"short": 60, "long": 64, "flip": 0.0})
    assert check("mine", None, None, "demo"), "40 px lies inside 37.5 to 40.5"
    write_own({"train/a": ((60, 64), [(CAT, 40, 40, 20, 20), (DOG, 36, 24, 3, 6)]), "val/c": SOUND})
    assert not check("mine", None, None, "demo"), "no multiple of 8 between 34.5 and 37.5"
    project.edit("schedules/demo", images={"short": 60, "long": 64, "flip": 0.5})
    assert check("mine", None, None, "demo"), "mirrored it is 22.5 to 25.5"


def test_a_study_may_be_small_or_on_the_data_set_but_on_no_other(project: Project, said: list[str]) -> None:
    write_own({"train/a": SOUND, "val/c": SOUND})
    for reference in ("demo", "demo@mine", "paper/table3@demo"):
        said.clear()
        assert check("mine", None, None, reference)
        assert any(line.startswith(f"Study {reference.partition('@')[0]}") for line in said)
    with pytest.raises(UserError, match="--study demo@shapes: is on data set 'shapes', not on 'mine'"):
        check("mine", None, None, "demo@shapes")
    with pytest.raises(UserError, match="study 'dem@mine'"):
        check("mine", None, None, "dem")


@pytest.mark.long
def test_a_snakemake_refuses_before_the_first_job(project: Project) -> None:
    write_own({name: ((2000, 1500), [(CAT, 500, 400, 18, 18)]) for name in ("train/a", "train/b", "val/c")})
    prepare("mine", None)
    said = project.snakemake("--config", "study=demo", "dataset=mine", status=1)
    assert "below 1 px" in said
    assert "Traceback" not in said
    assert not os.path.exists(RESULTS / "demo@mine")
