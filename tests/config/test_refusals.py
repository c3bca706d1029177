"""Studies that cannot run are refused when they are composed, each with one sentence."""

import shutil
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from tood.config.backbone import BackboneConfig, load_backbone
from tood.config.datasets import VocDataset, YoloDataset, load_dataset
from tood.config.images import ImagesConfig
from tood.config.study import load_study
from tood.io.errors import UserError

PARAMS = Path(__file__).parents[2] / "params"
ATSS = {"atss": {"method": "atss"}}


def edit(path: Path, **changes: object) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}, sort_keys=False))


def refusal(params: Path, reference: str = "demo") -> str:
    with pytest.raises(UserError) as caught:
        load_study(reference, params)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence[-1] in ".?"
    return sentence


def overriding(**backbone: object) -> dict[str, object]:
    return {"atss": {"method": "atss", "overrides": {"backbone": backbone}}}


@pytest.mark.parametrize(
    "name", ["a.1", "alignment", "figures", "logs", "tracked", "comparison", "report", "Figures", "-a", ""]
)
def test_run_names_that_cannot_be_addressed_or_collide_are_refused(params: Path, name: str) -> None:
    edit(params / "studies/demo.yaml", runs={**ATSS, name: {"method": "gfl"}})
    assert f"run name '{name}'" in refusal(params)


def test_an_analysis_that_does_not_exist_is_refused(params: Path) -> None:
    edit(params / "studies/demo.yaml", analysis=["alignmnt"])
    assert "field 'analysis.0' is 'alignmnt', which is not a valid name; did you mean 'alignment'?" in refusal(params)
    edit(params / "studies/demo.yaml", analysis=["alignment"])
    assert load_study("demo", params).analysis == ("alignment",)


@pytest.mark.parametrize(
    ("runs", "sentence"),
    [
        ("{}", "demo.yaml: field 'runs' is empty; give at least 1."),
        ("{1: {method: atss}}", "demo.yaml: field 'runs' has the name 1, which YAML does not read as text; quote it."),
        ("{yes: {method: atss}}", "field 'runs' has the name True"),
        ("{atss: {method: atss, 2: 3}}", "field 'runs.atss' has the name 2"),
    ],
)
def test_runs_without_proper_names_get_a_clear_sentence(params: Path, runs: str, sentence: str) -> None:
    path = params / "studies/demo.yaml"
    content = {key: value for key, value in yaml.safe_load(path.read_text()).items() if key != "runs"}
    path.write_text(yaml.safe_dump(content) + f"runs: {runs}\n")
    assert sentence in refusal(params)


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        ({"train": {"images": 4, "seed": 1}}, "shapes.yaml: field 'splits' has no 'val'"),
        ({"val": {"images": 4, "seed": 1}}, "shapes.yaml: field 'splits' has no 'train'"),
        ({"train": {"images": 4, "seed": 1}, "val": {"images": 0, "seed": 2}}, "'splits.val.images' is 0 but must be"),
    ],
)
def test_a_study_needs_train_and_val(params: Path, splits: dict[str, object], sentence: str) -> None:
    edit(params / "datasets/shapes.yaml", splits=splits)
    assert sentence in refusal(params)


def test_drawn_splits_need_a_share_for_val(params: Path) -> None:
    mine = {"format": "voc", "root": "/data", "draw": {"val": 0.0, "test": 0.2}}
    (params / "datasets/mine.yaml").write_text(yaml.safe_dump(mine))
    assert "params/datasets/mine.yaml: field 'draw.val' is 0" in refusal(params, "demo@mine")
    edit(params / "datasets/mine.yaml", draw={"val": 0.1})
    assert load_study("demo@mine", params).split == "val"


def test_another_split_than_val_can_be_chosen(params: Path) -> None:
    assert load_study("bccd", params).split == "test", "of [test, val] the first that there is"
    edit(params / "studies/bccd.yaml", split="val")
    assert load_study("bccd", params).split == "val"
    for wrong in ("train", "tset"):
        edit(params / "studies/bccd.yaml", split=wrong)
        assert f"bccd.yaml: field 'split' is '{wrong}'" in refusal(params, "bccd")
    assert refusal(params, "bccd").endswith("did you mean 'test'?")


@pytest.mark.parametrize("change", [{"first_stage_width": 32}, {"kind": "resnet18"}, {"pretraining": {"epochs": 1}}])
def test_generated_weights_are_those_of_the_file(params: Path, change: dict[str, object]) -> None:
    edit(params / "studies/demo.yaml", runs=overriding(**change))
    sentence = refusal(params)
    assert f"run 'atss' overrides backbone.{next(iter(change))}" in sentence
    assert "make a backbone file of its own" in sentence
    edit(params / "studies/demo.yaml", runs=overriding(weights="none", **change))
    load_study("demo", params)


def test_generated_weights_cannot_be_chosen_by_override(params: Path) -> None:
    edit(params / "backbones/light.yaml", weights="none")
    edit(params / "studies/demo.yaml", runs=overriding(weights="generated"))
    assert "overrides backbone.weights" in refusal(params)


def test_other_widths_of_neck_and_head_go_with_generated_weights(params: Path) -> None:
    edit(params / "studies/demo.yaml", runs=overriding(width=32))
    assert load_study("demo", params).run("atss").backbone.width == 32


def test_a_file_of_weights_must_exist_in_the_project(params: Path) -> None:
    edit(params / "studies/demo.yaml", runs=overriding(weights="old/model.pt"))
    assert "'weights' is 'old/model.pt'" in refusal(params)
    (params.parent / "old").mkdir()
    assert "neither a file" in refusal(params)
    (params.parent / "old/model.pt").touch()
    assert load_study("demo", params).run("atss").backbone.weights == "old/model.pt"


def test_a_misspelt_word_for_weights_gets_the_nearest(params: Path) -> None:
    edit(params / "studies/demo.yaml", runs=overriding(weights="imagnet"))
    assert refusal(params).endswith("did you mean 'imagenet'?")


def test_there_are_no_imagenet_weights_for_the_light_backbone(params: Path) -> None:
    edit(params / "studies/demo.yaml", runs=overriding(weights="imagenet"))
    assert "light backbone" in refusal(params)


def test_a_field_is_read_under_its_earlier_name_but_not_under_both(params: Path) -> None:
    file = params / "backbones/light.yaml"
    file.write_text(file.read_text().replace("first_stage_width: 16", "trunk_width: 24"))
    assert load_backbone("light", params).first_stage_width == 24
    edit(params / "studies/demo.yaml", runs=overriding(weights="none", trunk_width=8))
    assert load_study("demo", params).run("atss").backbone.first_stage_width == 8
    edit(params / "studies/demo.yaml", runs=overriding(weights="none", first_stage_width=8))
    sentence = refusal(params)
    assert "'runs.atss.overrides.backbone'" in sentence
    assert "trunk_width is the earlier name of first_stage_width" in sentence


def test_an_override_cannot_rename_a_block(params: Path) -> None:
    edit(params / "studies/demo.yaml", runs=overriding(name="r50"))
    assert "'runs.atss.overrides.backbone.name' is not to be given" in refusal(params)


def test_a_data_set_of_the_command_line_is_blamed_there(params: Path) -> None:
    sentence = refusal(params, "demo@shaps")
    assert sentence.startswith("'shaps' (given on the command line)")
    assert sentence.endswith("did you mean 'shapes'?")
    assert "studies/demo.yaml" not in sentence


@pytest.mark.parametrize("reference", ["demo@", "demo@bccd@shapes", "demo@bccd@"])
def test_a_reference_has_one_data_set_or_none(reference: str) -> None:
    assert f"study '{reference}'" in refusal(PARAMS, reference)


def test_a_study_cannot_write_into_the_logs_or_into_another_study(params: Path) -> None:
    shutil.copy(params / "studies/demo.yaml", params / "studies/logs.yaml")
    assert "logs" in refusal(params, "logs")
    (params / "studies/demo").mkdir()
    shutil.copy(params / "studies/demo.yaml", params / "studies/demo/atss.yaml")
    assert "would write into the same folder" in refusal(params)


def test_blocks_loaded_by_name_blame_what_the_user_typed() -> None:
    with pytest.raises(UserError, match=r"^data set 'shaps': .* did you mean 'shapes'\?$"):
        load_dataset("shaps", PARAMS)
    with pytest.raises(UserError, match=r"^backbone 'ligth': .* did you mean 'light'\?$"):
        load_backbone("ligth", PARAMS)
    with pytest.raises(UserError, match=r"^data set '\.\./datasets/shapes': "):
        load_dataset("../datasets/shapes", PARAMS)


def test_groups_that_do_not_divide_the_width_are_refused(params: Path) -> None:
    with pytest.raises(ValidationError, match="width 100 must be a multiple of norm_groups 32"):
        BackboneConfig(name="x", kind="resnet18", width=100)
    edit(params / "studies/demo.yaml", runs=overriding(width=40))
    assert "'runs.atss.overrides.backbone' is refused: width 40" in refusal(params)


@pytest.mark.parametrize("sizes", [{"short": 31}, {"short": 16, "long": 31}, {"jitter": [8, 64]}])
def test_images_of_less_than_a_cell_are_refused(sizes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 32"):
        ImagesConfig.model_validate(sizes)
    ImagesConfig(short=32, long=32, jitter=(32, 32))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lr": True}, "1x.yaml: field 'lr' is the truth value true but must be a number."),
        ({"epochs": True}, "1x.yaml: field 'epochs' is the truth value true but must be a whole number."),
        ({"grad_clip": False}, "1x.yaml: field 'grad_clip' is the truth value false but must be a number."),
        ({"milestones": [True]}, "1x.yaml: field 'milestones.0' is the truth value true but must be a whole number."),
        ({"images": {"flip": True}}, "1x.yaml: field 'images.flip' is the truth value true but must be a number."),
        (
            {"images": {"jitter": [64, True]}},
            "1x.yaml: field 'images.jitter.1' is the truth value true but must be a whole number.",
        ),
        ({"batch": 99_999_999}, "1x.yaml: field 'batch' is 99999999 but must be less than or equal to 65536."),
        ({"epochs": 10**13}, f"1x.yaml: field 'epochs' is {10**13} but must be less than or equal to 100000."),
        ({"warmup": {"iterations": 10**12}}, "field 'warmup.iterations' is 1000000000000 but must be less than"),
        ({"images": {"short": 10**9}}, "1x.yaml: field 'images.short' is 1000000000 but must be less than"),
    ],
)
def test_truth_values_are_no_numbers_and_numbers_have_limits(
    params: Path, changes: dict[str, object], sentence: str
) -> None:
    edit(params / "schedules/1x.yaml", **changes)
    edit(params / "studies/demo.yaml", runs={"atss": {"method": "atss", "schedule": "1x"}})
    assert sentence in refusal(params)


def test_truth_values_are_no_numbers_of_a_part_either_and_stay_what_they_are_elsewhere(params: Path) -> None:
    edit(params / "schedules/1x.yaml", drop_empty=True)
    edit(params / "studies/demo.yaml", runs={"atss": {"method": "atss", "schedule": "1x"}})
    assert load_study("demo", params).run("atss").schedule.drop_empty
    changed = {"atss": {"method": "tood", "overrides": {"method": {"criterion": {"box_weight": True}}}}}
    edit(params / "studies/demo.yaml", runs=changed)
    assert "criterion.box_weight' is the truth value true but must be a number." in refusal(params)


@pytest.mark.parametrize(
    ("classes", "problem"),
    [(["a", "b", "a"], "class 'a' is listed 2 times"), (["a", " "], "blank name"), ([], "at least 1")],
)
def test_class_lists_name_each_class_once(classes: list[str], problem: str) -> None:
    common = {"name": "x", "root": "/data", "images": "i", "draw": {}}
    for model, format_name in ((VocDataset, "voc"), (YoloDataset, "yolo")):
        with pytest.raises(ValidationError, match=problem):
            model.model_validate({**common, "format": format_name, "classes": classes})
        model.model_validate({**common, "format": format_name, "classes": ["a", "b"]})
