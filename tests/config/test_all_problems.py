"""Everything that is wrong with a configuration is said at once, a sentence and a line for each problem."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from tood.cli.main import main
from tood.config.datasets import DatasetConfig
from tood.config.messages import validate, validate_written
from tood.config.method import MethodConfig
from tood.config.published_table import load_published
from tood.config.study import StudyFile, load_study
from tood.io.errors import Problems, UserError
from tood.io.files import UnreadableError

PARAMS = Path(__file__).parents[2] / "params"
FILE = "params/methods/x.yaml"
METHOD: dict[str, Any] = {
    "head": {"kind": "parallel", "boxes": "distanc", "deformable_convs": 2, "convs": True},
    "criterion": {"kind": "focal", "assigner": {"kind": "atss", "topkk": 9}, "gama": 1},
    "nam": "x",
}
ATSS = {"method": "atss"}


def edit(path: Path, **changes: object) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}, sort_keys=False))


def problems_of(annotation: Any, value: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        validate(annotation, value, FILE)
    assert str(caught.value).split("\n") == list(caught.value.sentences)
    assert all(sentence.startswith(f"{FILE}: ") for sentence in caught.value.sentences)
    return caught.value.sentences


def refusals(params: Path, reference: str = "demo", **changes: object) -> list[str]:
    edit(params / "studies/demo.yaml", **changes)
    with pytest.raises(UserError) as caught:
        load_study(reference, params)
    assert all(sentence[-1] in ".?" for sentence in caught.value.sentences)
    return [sentence.removeprefix(f"{params}/") for sentence in caught.value.sentences]


def assert_named(sentences: list[str] | tuple[str, ...], *words: tuple[str, ...]) -> None:
    """Each sentence has its words, and there is no other sentence."""
    assert len(sentences) == len(words), sentences
    for sentence, expected in zip(sentences, words, strict=True):
        assert all(word in sentence for word in expected), (sentence, expected)


def test_every_field_of_a_file_is_named_in_order() -> None:
    assert_named(
        problems_of(MethodConfig, {"name": "x", **METHOD}),
        ("'head.convs'", "truth value true"),
        ("'head.boxes'", "'distanc'", "did you mean 'distance'?"),
        ("'head.deformable_convs'", "unknown"),
        ("'criterion.assigner.topkk'", "did you mean 'topk'?"),
        ("'criterion.gama'", "did you mean 'focal_gamma'?"),
        ("'nam'", "unknown"),
    )


def test_only_fields_that_can_be_given_are_suggested() -> None:
    """Not those of another kind of head, and not the name, which is the file's."""
    _, _, deformable, _, _, name = problems_of(MethodConfig, {"name": "x", **METHOD})
    assert "'deformable_convs'" not in deformable.partition("unknown")[2]
    assert "'name'" not in name
    voc = {"name": "x", "format": "voc", "root": "r", "draw": {}, "sizes": 3}
    (sizes,) = problems_of(DatasetConfig, voc)
    assert "'size'" not in sizes


def test_what_a_validator_of_a_file_refuses_is_all_named() -> None:
    fits_nothing = {
        "name": "x",
        "head": {"kind": "parallel", "boxes": "bins", "alignment": True},
        "criterion": {"kind": "focal"},
        "inference": {"rank_by": "geometric_mean"},
    }
    assert_named(
        problems_of(MethodConfig, fits_nothing),
        ("head.alignment",),
        ("inference.rank_by",),
        ("criterion.kind 'focal'",),
    )
    drawn = {"name": "x", "format": "voc", "classes": ["a", "a", "b", "b"]}
    assert_named(problems_of(DatasetConfig, drawn), ("'classes'", "'a'"), ("'classes'", "'b'"))
    assert_named(
        problems_of(DatasetConfig, {"name": "x", "format": "voc"}), ("'root'", "'source'"), ("'splits'", "'draw'")
    )


def test_names_that_yaml_does_not_read_as_text_stand_beside_other_mistakes() -> None:
    value = yaml.safe_load("{name: x, on: 1, head: {kind: task_aligned, 2: 3, convs: 0}, criterion: {kind: focal}}")
    assert_named(
        problems_of(MethodConfig, value),
        ("field 'head.convs' is 0",),
        ("field 'head' has the name 2", "quote it"),
        ("the file has the name True", "quote it"),
    )


def test_a_missing_field_called_like_a_value_is_named() -> None:
    study = {"title": "baseline", "dataset": "a", "runs": {"a": ATSS}}
    assert_named(problems_of(StudyFile, study), ("field 'baseline' is missing",))


def test_of_very_many_problems_the_first_twenty_are_shown() -> None:
    error = UserError(*(f"a: {number}." for number in range(23)))
    assert str(error).split("\n") == [*(f"a: {number}." for number in range(20)), "and 3 more."]
    assert len(error.sentences) == 23
    assert pickle.loads(pickle.dumps(error)).sentences == error.sentences


def test_a_line_break_in_a_name_is_none_of_ours() -> None:
    with pytest.raises(UserError) as caught:
        validate(MethodConfig, {"name": "x", **METHOD, "a\nb": 1, "c\x1b[31m": 2}, FILE)
    lines = str(caught.value).split("\n")
    assert len(lines) == len(caught.value.sentences) == 8
    assert any(r"'a\nb'" in line for line in lines)
    assert "\x1b" not in str(caught.value)


def test_a_gathered_problem_is_said_once_and_a_file_that_cannot_be_read_in_one_sentence() -> None:
    problems = Problems()
    for error in (UserError("a.", "b."), UserError("b."), UnreadableError("c", "restore it"), UnreadableError("d")):
        with problems.gather():
            raise error
    with pytest.raises(UserError) as caught:
        problems.raise_all()
    assert caught.value.sentences == ("a.", "b.", "c; restore it.", "d.")


def test_what_the_program_wrote_has_one_problem_and_a_remedy() -> None:
    with pytest.raises(UserError) as caught:
        validate_written(MethodConfig, {"name": "x", **METHOD}, FILE, "train the run again")
    assert_named(caught.value.sentences, (FILE, "'head.convs'", "train the run again"))


def test_all_runs_of_a_study_are_looked_at(params: Path) -> None:
    runs = {
        "a": {"method": "atts"},
        "b": {"method": "gfll", "schedule": "dmo"},
        "c": {"method": "atss", "overrides": {"schedule": {"epoch": 3, "lr": "much"}}},
        "d": {},
        "e": {"method": "atss", "overrides": {"backbone": {"name": "r50"}}},
        "f": {"method": "atss"},
    }
    file = "studies/demo.yaml"
    found = refusals(params, runs=runs, baseline="z", dataset="shaps", published="paper/tabel3")
    assert_named(
        found,
        (file, "'dataset'", "shaps.yaml", "did you mean 'shapes'?"),
        (file, "'runs.a.method'", "atts.yaml", "did you mean 'atss'?"),
        (file, "'runs.b.method'", "gfll.yaml", "did you mean 'gfl'?"),
        (file, "'runs.b.schedule'", "dmo.yaml", "did you mean 'demo'?"),
        (file, "'runs.c.overrides.schedule.lr'", "'much'"),
        (file, "'runs.c.overrides.schedule.epoch'", "did you mean 'epochs'?"),
        (file, "run 'd' has no method"),
        (file, "'runs.e.overrides.backbone.name'"),
        (file, "'published'", "tabel3.yaml", "did you mean 'paper/table3'?"),
        (file, "'baseline'", "'z'"),
    )


def test_a_mistake_that_runs_share_is_named_once(params: Path) -> None:
    edit(params / "methods/atss.yaml", nekc={}, name="atss")
    common = {"backbone": "ligth", "schedule": "demo", "overrides": {"schedule": {"lr": 0}}}
    changed = {**ATSS, "overrides": {"schedule": {"gamma": 2}}}
    assert_named(
        refusals(params, common=common, runs={"a": ATSS, "atss": ATSS, "c": changed}),
        ("methods/atss.yaml", "'name'"),
        ("methods/atss.yaml", "'nekc'", "did you mean 'neck'?"),
        ("studies/demo.yaml", "'common.backbone'", "ligth.yaml", "did you mean 'light'?"),
        ("studies/demo.yaml", "'common.overrides.schedule.lr'", "0"),
        ("studies/demo.yaml", "'runs.c.overrides.schedule.gamma'", "2"),
    )


def test_weights_and_rows_of_all_runs_are_looked_at(params: Path) -> None:
    def weights(name: str, **more: object) -> dict[str, object]:
        return {**ATSS, "overrides": {"backbone": {"weights": name, **more}}}

    runs = {
        "a": weights("old.pt"),
        "b": weights("imagnet"),
        "c": weights("old.pt"),
        "d": weights("generated", kind="resnet18", first_stage_width=32),
        "atss": ATSS,
        "f": {"method": "gfl", "row": "atss"},
        "g": {**ATSS, "row": "atss"},
    }
    assert_named(
        refusals(params, runs=runs),
        ("backbones/light.yaml", "'weights'", "'old.pt'", "runs 'a', 'c'"),
        ("backbones/light.yaml", "'weights'", "'imagnet'", "run 'b'", "did you mean 'imagenet'?"),
        ("studies/demo.yaml", "run 'd'", "backbone.kind"),
        ("studies/demo.yaml", "run 'd'", "backbone.first_stage_width"),
        ("studies/demo.yaml", "'atss' and 'f'", "row 'atss'"),
        ("studies/demo.yaml", "'atss' and 'g'", "row 'atss'"),
    )


def test_a_study_without_any_split_lacks_both(params: Path) -> None:
    edit(params / "datasets/shapes.yaml", splits={})
    assert_named(refusals(params), ("datasets/shapes.yaml", "'train'"), ("datasets/shapes.yaml", "'val'"))


def test_all_names_of_runs_and_all_sources_of_a_table_are_looked_at(params: Path) -> None:
    runs = {"a.1": ATSS, "logs": ATSS, "atss": ATSS}
    assert_named(refusals(params, runs=runs), ("'a.1'",), ("'logs'",))
    value = {"split": "val", "AP": 40.0}
    rows = {name: {"values": [{**value, "source": f"{name}r"}]} for name in ("a", "b")}
    table = {"title": "t", "dataset": "coco2017", "sources": {"paper": "A"}, "rows": rows}
    (params / "published/mine.yaml").write_text(yaml.safe_dump(table))
    with pytest.raises(UserError) as caught:
        load_published("mine", params)
    assert_named(caught.value.sentences, ("mine.yaml", "'a'", "'ar'"), ("mine.yaml", "'b'", "'br'"))


def test_the_command_line_shows_a_line_for_each(
    params: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(params / "schedules/demo.yaml", **{"epoch": 3, "l\nr": 0.1})
    edit(params / "studies/demo.yaml", baseline="ats")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["tood", "train", "--run", "results/demo/atss"])
    monkeypatch.setenv("TOOD_RAISED", str(tmp_path / "said"))
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == UserError.status
    lines = capsys.readouterr().err.splitlines()
    assert_named(
        lines,
        ("tood: params/schedules/demo.yaml: ", "'epoch'", "did you mean 'epochs'?"),
        ("tood: params/schedules/demo.yaml: ", r"'l\nr'"),
        ("tood: params/studies/demo.yaml: ", "'baseline'", "'ats'"),
    )
    said = (tmp_path / "said").read_text().split("\n")
    assert [f"tood: {line}" for line in said] == lines, "what a launcher of several processes repeats"
    assert not (tmp_path / "results").exists()
