"""At every place where a name is given, a misspelt one leads to the nearest of those that are valid there."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tood.config.blocks import block_file, block_names
from tood.config.messages import nearest
from tood.config.study import load_study
from tood.io.errors import UserError

PARAMS = Path(__file__).parents[2] / "params"
FOLDERS = ("studies", "methods", "backbones", "schedules", "datasets", "scales", "published")
Change = Callable[[dict[str, Any]], object]


def refusal(params: Path, block: str, change: Change, reference: str = "demo") -> str:
    """The one sentence with which a study is refused once its file, or one that it names, has changed."""
    path = params / f"{block}.yaml"
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return refused(params, reference)


def refused(params: Path, reference: str = "demo") -> str:
    with pytest.raises(UserError) as caught:
        load_study(reference, params)
    (sentence,) = caught.value.sentences
    assert sentence[-1] in ".?"
    return sentence.replace(f"{params}/", "params/")


def run(**entry: object) -> Change:
    return lambda content: content["runs"].update(tood={"method": "tood", **entry})


def override(block: str, **fields: object) -> Change:
    return run(overrides={block: {"weights": "none", **fields} if block == "backbone" else fields})


@pytest.mark.parametrize(
    ("block", "change", "place", "meant"),
    [
        ("studies/demo", lambda c: c.update(titel="x"), "'titel'", "title"),
        ("studies/demo", lambda c: c.setdefault("common", {}).update(sede=1), "'common.sede'", "seed"),
        ("studies/demo", run(metod="tood"), "'runs.tood.metod'", "method"),
        ("studies/demo", run(overrides={"shedule": {}}), "'runs.tood.overrides.shedule'", "schedule"),
        ("studies/demo", run(method="tod"), "'runs.tood.method'", "tood"),
        ("studies/demo", run(backbone="ligth"), "'runs.tood.backbone'", "light"),
        ("studies/demo", run(schedule="dmeo"), "'runs.tood.schedule'", "demo"),
        ("studies/demo", lambda c: c.update(dataset="shaeps"), "'dataset'", "shapes"),
        ("studies/demo", lambda c: c.update(baseline="atts"), "'baseline'", "atss"),
        ("studies/demo", lambda c: c.update(split="vall"), "'split'", "val"),
        ("studies/demo", lambda c: c.update(analysis=["alignement"]), "'analysis.0'", "alignment"),
        ("studies/demo", lambda c: c.update(published="paper/tabel3"), "'published'", "paper/table3"),
        ("studies/demo", lambda c: c.update(submission="coco2017_testdef"), "'submission'", "coco2017_testdev"),
        ("studies/demo", override("backbone", widht=32), "overrides.backbone.widht'", "width"),
        ("studies/demo", override("backbone", kind="resnet51"), "overrides.backbone.kind'", "resnet50"),
        ("studies/demo", override("backbone", weights="imagnet"), "'weights'", "imagenet"),
        ("studies/demo", override("schedule", epoch=2), "overrides.schedule.epoch'", "epochs"),
        ("studies/demo", override("schedule", warmup={"iteration": 2}), "schedule.warmup.iteration'", "iterations"),
        ("studies/demo", override("schedule", precision="fp32"), "schedule.precision'", "float32"),
        ("studies/demo", override("method", inference={"nms_iuo": 0.5}), "method.inference.nms_iuo'", "nms_iou"),
        ("methods/tood", lambda c: c["head"].update(kind="task_alined"), "'head.kind'", "task_aligned"),
        ("methods/tood", lambda c: c["criterion"].update(kind="task_alinged"), "'criterion.kind'", "task_aligned"),
        ("methods/tood", lambda c: c["criterion"].update(box_wieght=1), "'criterion.box_wieght'", "box_weight"),
        (
            "methods/atss",
            lambda c: c["criterion"].update(assigner={"kind": "atts"}),
            "'criterion.assigner.kind'",
            "atss",
        ),
        ("datasets/shapes", lambda c: c.update(format="shpaes"), "'format'", "shapes"),
        ("datasets/shapes", lambda c: c.update(sizes=64), "'sizes'", "size"),
        ("datasets/shapes", lambda c: c["splits"]["val"].update(image=64), "'splits.val.image'", "images"),
        ("schedules/demo", lambda c: c.update(milestone=[1]), "'milestone'", "milestones"),
        ("backbones/light", lambda c: c.update(fist_stage_width=8), "'fist_stage_width'", "first_stage_width"),
    ],
)
def test_a_misspelt_name_leads_to_the_right_one(
    params: Path, block: str, change: Change, place: str, meant: str
) -> None:
    sentence = refusal(params, block, change)
    assert place in sentence
    assert f"did you mean '{meant}'?" in sentence
    assert sentence.startswith(f"params/{block}.yaml: ") or "weights" in place


def test_a_misspelt_name_of_a_published_source_and_of_a_scale_lead_to_theirs(params: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        row = next(iter(content["rows"].values()))
        row["values"][0]["source"] = f"{row['values'][0]['source']}x"

    assert "did you mean '" in refusal(params, "published/paper/table3", change, "paper/table3")
    assert "did you mean 'label'?" in refusal(params, "scales/demo", lambda c: c.update(lable="x"), "demo@demo")


@pytest.mark.parametrize(
    ("block", "change", "place", "said"),
    [
        ("schedules/demo", lambda c: c.update(epochs="three"), "'epochs'", "the text 'three' but must be a whole"),
        (
            "schedules/demo",
            lambda c: c.update(lr="0,01"),
            "'lr'",
            "the text '0,01' but must be a number; write a point",
        ),
        ("schedules/demo", lambda c: c.update(epochs="12 epochs"), "'epochs'", "write the number alone, as 12"),
        ("schedules/demo", lambda c: c.update(epochs="1２"), "'epochs'", "write it plainly, as 12"),
        ("schedules/demo", lambda c: c.update(epochs="'12'"), "'epochs'", "leave out the quotes, as 12"),
        ("schedules/demo", lambda c: c.update(epochs=1.5), "'epochs'", "the number 1.5 but must be a whole number"),
        ("schedules/demo", lambda c: c.update(batch=None), "'batch'", "is empty but must be a whole number"),
        ("schedules/demo", lambda c: c.update(milestones=3), "'milestones'", "the number 3 but must be a list; write"),
        ("schedules/demo", lambda c: c.update(warmup="ratio：1"), "'warmup'", "fullwidth colon (U+FF1A)"),
        ("schedules/demo", lambda c: c.update(warmup="ratio:1"), "'warmup'", "put a space behind the colon"),
        ("schedules/demo", lambda c: c.update(warmup=[{"ratio": 1}]), "'warmup'", "leave out the dashes"),
        ("schedules/demo", lambda c: c.update(precision=32), "'precision'", "is the number 32, which is not a valid"),
        ("schedules/demo", lambda c: c.update(drop_empty="maybe"), "'drop_empty'", "the text 'maybe' but must be true"),
        ("studies/demo", lambda c: c.update(title=3), "'title'", "the number 3 but must be a text; put it in quotes"),
        ("studies/demo", lambda c: c.update(title=True), "'title'", "the truth value true but must be a text"),
        ("studies/demo", run(method=None, seed="x"), "'runs.tood.seed'", "the text 'x' but must be a whole number"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_type_and_the_remedy(
    params: Path, block: str, change: Change, place: str, said: str
) -> None:
    sentence = refusal(params, block, change)
    assert f"params/{block}.yaml: field {place}" in sentence
    assert said in sentence


def test_a_number_or_a_truth_value_where_a_name_is_wanted_is_not_suggested_as_it_looks() -> None:
    assert nearest(1, ["1", "2"]) == "; put it in quotes, as '1'."
    assert nearest(False, ["off", "red"]) == "; YAML reads no, off, false as false, so put 'off' in quotes."
    assert nearest("1", ["1"]) == "."
    assert "valid are 2" in nearest("1", ["1", "2", "33333"])


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("Demo", "upper and lower case differ: did you mean 'demo'?"),
        ("demo\u00a0", "no-break space (U+00A0): did you mean 'demo'?"),
        ("demo@shap\u200bes", "zero width space (U+200B): did you mean 'shapes'?"),
        ("demo.yaml", "without folder and suffix: did you mean 'demo'?"),
        ("params/studies/demo.yaml", "did you mean 'demo'?"),
        ("shapes", "'shapes' is the name of a data set"),
        ("tood", "'tood' is the name of a method"),
        ("demo@r50", "'r50' is the name of a backbone"),
        ("paper", "'paper' is a folder; choose one of paper/"),
        ("demo@mine", "params/datasets/mine.yml; rename it to mine.yaml"),
        ("demo@mien", "params/datasets/mine.yml; rename it to mine.yaml"),
        ("demo@big", "params/datasets/Big.YAML; rename it to Big.yaml"),
        ("demo@my data", "names have letters a to z"),
        ("demo@gone", "only a link to nowhere"),
        ("demo@folder", "params/scales/folder.yaml, only a folder that is called"),
        ("demo@empty", "params/datasets/empty.yaml: must hold a mapping of fields"),
        ("demo@list", "is the list ['a', 'b']; leave out the dashes"),
        ("demo@colon", "fullwidth colon (U+FF1A)"),
    ],
)
def test_a_reference_that_is_nearly_right_is_told_what_is_wrong(params: Path, reference: str, said: str) -> None:
    folder = params / "datasets"
    for name in ("mine.yml", "Big.YAML", "my data.yaml", "empty.yaml"):
        (folder / name).touch()
    (folder / "gone.yaml").symlink_to("nowhere")
    (folder / "folder.yaml").mkdir()
    (folder / "list.yaml").write_text("- a\n- b\n")
    (folder / "colon.yaml").write_text("format：voc\n")
    assert said in refused(params, reference)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_settings_in_other_encodings_are_read_as_meant(params: Path, encoding: str) -> None:
    path = params / "studies/demo.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("\n", "\r\n"), encoding=encoding)
    assert load_study("demo", params).title == load_study("demo", PARAMS).title


@given(st.data())
def test_what_is_suggested_can_be_chosen_and_is_not_what_was_given(data: st.DataObject) -> None:
    folder = data.draw(st.sampled_from(FOLDERS))
    names = block_names(PARAMS, folder)
    name = data.draw(st.sampled_from(names))
    place = data.draw(st.integers(0, len(name)))
    misspelt = name[:place] + data.draw(st.sampled_from(["", "x", "\u00a0", "A", "é"])) + name[place + 1 :]
    if misspelt in names:
        return
    with pytest.raises(UserError) as caught:
        block_file(PARAMS, folder, misspelt, "here")
    found = re.search(r"did you mean '(.*)'\?$", str(caught.value))
    if found is not None:
        assert found[1] in names
        assert found[1] != misspelt
