"""Studies for one's own data: which runs seeds and methods make, and what is refused."""

from pathlib import Path

import pytest
import yaml

from tood.config.study import Study, load_study
from tood.config.study_file import Selection
from tood.io.errors import UserError

PARAMS = Path(__file__).parents[2] / "params"


def own(selection: Selection = Selection(), study: str = "own") -> Study:  # noqa: B008
    return load_study(f"{study}@bccd", PARAMS, selection=selection)


@pytest.mark.parametrize("study", ["own", "own_r50"])
def test_every_method_is_trained_with_three_seeds(study: str) -> None:
    found = own(study=study)
    assert list(found.runs) == [f"{method}-{seed}" for seed in range(3) for method in ("tood", "atss", "gfl")]
    assert found.row_names() == ["tood", "atss", "gfl"]
    assert [found.runs[f"gfl-{seed}"].seed for seed in range(3)] == [0, 1, 2]
    settings = {run.schedule.model_dump_json() + run.backbone.model_dump_json() for run in found.runs.values()}
    assert len(settings) == 1  # rows differ in their method only


def test_the_held_out_split_is_test_where_there_is_one() -> None:
    assert own().split == "test"
    assert load_study("own@coco_tiny", PARAMS).split == "val"


def test_seeds_and_methods_are_chosen() -> None:
    found = own(Selection(2, ("paa", "tood")))
    assert list(found.runs) == ["paa-0", "tood-0", "paa-1", "tood-1"]
    assert (found.runs["paa-1"].method.name, found.runs["paa-1"].row, found.baseline) == ("paa", "paa", "paa")
    assert own(Selection(methods=("gfl", "atss"))).baseline == "atss"


def test_a_run_is_the_same_whatever_else_is_chosen() -> None:
    assert own(Selection(1)).runs["tood-0"].fingerprint == own().runs["tood-0"].fingerprint


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("tood-2", Selection(3, ("tood",))),
        ("a-b-0", Selection(1, ("a-b",))),
        ("tood", Selection()),
        ("x-01", Selection()),
    ],
)
def test_a_run_names_its_method_and_seed(run: str, expected: Selection) -> None:
    assert Selection.of_run(run) == expected


def test_options_in_epochs_are_shares_of_a_schedule_in_steps() -> None:
    criterion = own().runs["tood-0"].method.criterion.model_dump()
    assert (criterion["warmup_epochs"], criterion["warmup_share"]) == (None, pytest.approx(4 / 12))


def test_a_title_names_the_data_set() -> None:
    assert own().title.endswith("on bccd")
    assert load_study("demo", PARAMS).title.endswith("on shapes")
    assert load_study("demo@bccd", PARAMS).title.endswith("on bccd")


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'pa'.*'paa'"):
        own(Selection(methods=("tood", "pa")))


def test_a_study_without_seeds_takes_no_selection() -> None:
    with pytest.raises(UserError, match=r"demo.yaml.*seeds"):
        load_study("demo", PARAMS, selection=Selection(1))


def test_a_study_for_own_data_asks_for_them() -> None:
    with pytest.raises(UserError, match=r"'own'.*dataset=NAME"):
        load_study("own", PARAMS)


def test_a_seed_of_its_own_does_not_go_with_seeds(tmp_path: Path) -> None:
    content = yaml.safe_load((PARAMS / "studies/own.yaml").read_text())
    content["runs"]["gfl"] = {"method": "gfl", "seed": 4}
    (tmp_path / "studies").mkdir()
    for folder in ("methods", "backbones", "schedules", "datasets", "scales"):
        (tmp_path / folder).symlink_to(PARAMS / folder)
    (tmp_path / "studies/own.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"'gfl'.*seed"):
        load_study("own@bccd", tmp_path)
