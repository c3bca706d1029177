"""Composition of studies and the sentences for what can be wrong with them."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tood.config.compose import merge
from tood.config.study import changed_fields, load_study
from tood.io.errors import UserError
from tood.workflow.dvc_pipelines import study_names

PARAMS = Path(__file__).parents[2] / "params"
STUDIES = sorted(
    path.relative_to(PARAMS / "studies").with_suffix("").as_posix() for path in (PARAMS / "studies").rglob("*.yaml")
)


def edit(path: Path, **changes: object) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_composes(name: str) -> None:
    study = load_study(name if name in study_names(PARAMS) else f"{name}@bccd", PARAMS)
    assert study.baseline in study.row_names()
    assert len({run.fingerprint for run in study.runs.values()}) == len(study.runs)


def test_the_paper_schedule_reaches_the_run() -> None:
    run = load_study("coco_1x", PARAMS).run("tood")
    assert (run.schedule.epochs, run.schedule.milestones, run.schedule.lr, run.schedule.batch) == (
        12,
        [8, 11],
        0.01,
        16,
    )
    assert run.method.criterion.kind == "task_aligned"
    assert (run.method.criterion.assigner.topk, run.method.criterion.assigner.conflict) == (13, "min_area")
    assert run.method.inference.model_dump() == {
        "score_threshold": 0.05,
        "pre_nms_topk": 1000,
        "nms_iou": 0.6,
        "max_detections": 100,
        "clip_boxes": True,
        "rank_by": "class",
        "precision": "float32",
        "score_voting": None,
    }


def test_another_dataset_gives_another_name_and_fingerprint() -> None:
    own, other = load_study("demo", PARAMS), load_study("demo@bccd", PARAMS)
    assert other.name == "demo@bccd"
    assert other.dataset.name == "bccd"
    assert own.run("atss").fingerprint != other.run("atss").fingerprint


def test_later_overrides_win(params: Path) -> None:
    edit(
        params / "studies/demo.yaml",
        common={"backbone": "light", "schedule": "demo", "overrides": {"schedule": {"lr": 0.5, "gamma": 0.3}}},
        runs={"atss": {"method": "atss", "overrides": {"schedule": {"lr": 0.25}}}},
    )
    schedule = load_study("demo", params).run("atss").schedule
    assert (schedule.lr, schedule.gamma) == (0.25, 0.3)


@pytest.mark.parametrize(
    ("file", "changes", "sentence"),
    [
        ("studies/demo.yaml", {"dataset": "shaps"}, "params/datasets/shaps.yaml; did you mean 'shapes'?"),
        ("studies/demo.yaml", {"baseline": "ats"}, "'baseline' is 'ats', which is not a row; did you mean 'atss'?"),
        ("studies/demo.yaml", {"basline": "atss"}, "field 'basline' is unknown; did you mean 'baseline'?"),
        ("studies/demo.yaml", {"runs": {}}, "field 'runs'"),
        ("studies/demo.yaml", {"runs": {"a": {"methd": "atss"}}}, "'runs.a.methd' is unknown; did you mean 'method'?"),
        ("studies/demo.yaml", {"runs": {"a/b": {"method": "atss"}}}, "run name 'a/b'"),
        ("studies/demo.yaml", {"runs": {"atss": {"method": "atts"}}}, "atts.yaml; did you mean 'atss'?"),
        ("studies/demo.yaml", {"runs": {"atss": {}}}, "run 'atss' has no method"),
        (
            "studies/demo.yaml",
            {"runs": {"atss": {"method": "atss", "overrides": {"schedule": {"epoch": 3}}}}},
            "studies/demo.yaml: field 'runs.atss.overrides.schedule.epoch' is unknown; did you mean 'epochs'?",
        ),
        (
            "studies/demo.yaml",
            {"runs": {"atss": {"method": "atss"}, "b": {"method": "gfl", "row": "atss"}}},
            "runs 'atss' and 'b' share the row 'atss'",
        ),
        ("methods/tood.yaml", {"head": {"kind": "task_aligned", "convs": 0}}, "'head.convs' is 0 but must be"),
        ("methods/tood.yaml", {"head": {"kind": "t_head"}}, "'head.kind' is 't_head', which is not a valid name"),
        ("schedules/demo.yaml", {"milestones": [3, 2]}, "milestones must increase"),
        ("schedules/demo.yaml", {"lr": float("nan")}, "field 'lr'"),
        ("datasets/shapes.yaml", {"format": "shape"}, "'format' is 'shape', which is not a valid name"),
    ],
)
def test_a_mistake_is_one_sentence_naming_file_and_field(
    params: Path, file: str, changes: dict[str, object], sentence: str
) -> None:
    edit(params / file, **changes)
    with pytest.raises(UserError) as caught:
        load_study("demo", params)
    message = str(caught.value)
    assert sentence in message
    assert file.split("/")[-1] in message or "studies/demo" in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["{", "- a\n- b\n", "", "title: [unclosed"])
def test_a_file_that_is_not_a_mapping_is_named(params: Path, text: str) -> None:
    (params / "studies/demo.yaml").write_text(text)
    with pytest.raises(UserError, match=r"studies/demo\.yaml"):
        load_study("demo", params)


@pytest.mark.parametrize("name", ["../demo", "demo/../demo", "", "demo@../x", "dem o"])
def test_names_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(UserError):
        load_study(name, PARAMS)


def test_a_seed_is_a_run(params: Path) -> None:
    edit(
        params / "studies/demo.yaml",
        runs={"atss-0": {"method": "atss", "row": "atss"}, "atss-1": {"method": "atss", "row": "atss", "seed": 1}},
    )
    study = load_study("demo", params)
    assert study.row_names() == ["atss"]
    assert [run.seed for run in study.runs.values()] == [0, 1]


def test_a_changed_kind_replaces_the_whole_part() -> None:
    base = {"assigner": {"kind": "a", "only_a": 1}, "other": {"x": 1, "y": 2}}
    merged = merge(base, {"assigner": {"kind": "b", "only_b": 2}, "other": {"y": 3}})
    assert merged == {"assigner": {"kind": "b", "only_b": 2}, "other": {"x": 1, "y": 3}}


trees = st.recursive(
    st.integers(),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=2), trees, max_size=3),
    st.dictionaries(st.text("abc", min_size=1, max_size=2), trees, max_size=3),
)
def test_merging_twice_changes_nothing_more(base: dict[str, object], changes: dict[str, object]) -> None:
    once = merge(base, changes)
    assert merge(once, changes) == once
    assert merge(base, {}) == base
    assert (changed_fields(base, once) == []) == (once == base)
