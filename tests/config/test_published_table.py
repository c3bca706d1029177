"""Published numbers: digits as their sources print them, and files that cannot be right are refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tood.config.published_table import PublishedTable, load_published
from tood.config.study import load_study
from tood.io.errors import UserError
from tood.workflow.dvc_pipelines import pipeline

PARAMS = Path(__file__).parents[2] / "params"
TABLES = sorted(
    path.relative_to(PARAMS / "published").with_suffix("").as_posix() for path in (PARAMS / "published").rglob("*.yaml")
)
ALL = ("AP", "AP50", "AP75", "APs", "APm", "APl")
COSTS = ("head_parameters", "parameters", "head_gflops", "gflops")


def load(name: str) -> PublishedTable:
    return load_published(name, PARAMS)


def test_every_table_of_the_paper_is_there() -> None:
    assert set(TABLES) == {f"paper/table{number}" for number in range(1, 7)}


@pytest.mark.parametrize("name", TABLES)
def test_every_value_has_a_source_and_every_source_a_value(name: str) -> None:
    table = load(name)
    used = {value.source for row in table.rows.values() for value in row.values}
    assert used == set(table.sources)
    assert "arXiv 2108.07755v3, Table " + name[-1] in table.sources["paper"]
    for row in table.rows.values():
        assert row.values[0].source == "paper", "the table's own value stands first"
        described = [(value.source, value.split, value.epochs, value.note) for value in row.values]
        assert len(set(described)) == len(described), "two values that nothing tells apart"


@pytest.mark.parametrize("name", TABLES)
def test_the_study_of_the_table_names_it_and_has_its_rows(name: str) -> None:
    study, table = load_study(name, PARAMS), load(name)
    assert study.published == table
    assert table.dataset == study.dataset.name
    others = set(table.rows) - set(study.row_names())
    assert all(table.rows[row].label for row in others), "a row of others needs a label, or its name is a typo"
    without = set(study.row_names()) - set(table.rows)
    assert without == ({"m5", "m9", "m17", "m21"} if name == "paper/table4" else set())


@pytest.mark.parametrize(
    ("name", "row", "fields", "numbers"),
    [
        ("paper/table1", "foveabox", (*ALL[:3], *COSTS), (37.3, 56.2, 39.7, 4.92, 36.20, 104.87, 206.28)),
        ("paper/table1", "fcos_imprv_thead", (*ALL[:3], *COSTS), (40.5, 58.5, 43.8, 4.82, 31.92, 100.79, 196.38)),
        (
            "paper/table1",
            "thead_atss_anchor_based",
            (*ALL[:3], *COSTS),
            (41.1, 58.6, 44.5, 4.82, 31.98, 100.79, 201.13),
        ),
        ("paper/table1", "atss_anchor_free", (*ALL[:3], *COSTS), (39.2, 57.4, 42.2, 4.92, 32.07, 104.87, 205.21)),
        ("paper/table2", "max_iou", ALL[:3], (36.5, 55.5, 38.7)),
        ("paper/table2", "centerness", ALL[:3], (37.4, 56.1, 40.3)),
        ("paper/table2", "paa_iou_18e", (*ALL[:3], "epochs"), (40.9, 59.4, 43.9, 18)),
        ("paper/table2", "tal", (*ALL[:3], "epochs"), (40.3, 58.5, 43.8, 12)),
        ("paper/table2", "tal_tap_18e", (*ALL[:3], "epochs"), (42.5, 60.3, 46.4, 18)),
        ("paper/table3", "atss_anchor_based", ALL[:3], (39.3, 57.5, 42.8)),
        ("paper/table3", "tood_anchor_free", ALL[:3], (42.5, 59.8, 46.4)),
        ("paper/table3", "tood_anchor_based", ALL[:3], (42.4, 59.8, 46.1)),
        ("paper/table4", "a05_b2", ALL[:3], (42.4, 60.0, 46.1)),
        ("paper/table4", "a15_b8", ALL[:3], (41.5, 59.4, 44.7)),
        ("paper/table5", "retinanet_r101", ALL, (39.1, 59.1, 42.3, 21.9, 42.7, 50.2)),
        ("paper/table5", "gfl_x101", ALL, (46.0, 65.1, 50.1, 28.2, 49.6, 56.0)),
        ("paper/table5", "vfnet_x101_dcn", ALL, (49.9, 68.5, 54.3, 30.7, 53.1, 62.8)),
        ("paper/table5", "tood_r101", ALL, (46.7, 64.6, 50.7, 28.9, 49.6, 57.0)),
        ("paper/table5", "tood_x101_dcn", ALL, (51.1, 69.4, 55.5, 31.9, 54.1, 63.7)),
    ],
)
def test_digits_are_those_of_the_paper(
    name: str, row: str, fields: tuple[str, ...], numbers: tuple[float, ...]
) -> None:
    first = load(name).rows[row].values[0]
    assert tuple(getattr(first, field) for field in fields) == numbers
    assert first.split == ("test-dev" if name == "paper/table5" else "val")


def test_the_alignment_table_has_its_counts() -> None:
    table = load("paper/table6")
    found = {name: row.values[0].alignment for name, row in table.rows.items()}
    assert {name: tuple(one.model_dump().values()) for name, one in found.items() if one is not None} == {
        "parallel_atss": (0.408, 0.637, 30261, 25428, 92677),
        "thead_atss": (0.440, 0.644, 30601, 21838, 79189),
        "parallel_tal": (0.415, 0.643, 30506, 15927, 72320),
        "thead_tal": (0.452, 0.661, 30734, 15242, 69013),
    }


def test_sources_that_disagree_about_a_row_all_have_their_say() -> None:
    values = load("paper/table2").rows["free_anchor"].values
    assert [(value.source, value.AP) for value in values if value.split == "val"] == [
        ("paper", 39.1),
        ("free_anchor_repo", 38.7),
        ("mmdet_free_anchor", 38.7),
    ]
    readme = [value for value in load("paper/table5").rows["tood_x101"].values if value.source == "tood_repo"]
    assert {value.split: value.AP for value in readme} == {"val": 47.6, "test-dev": 48.5}


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PARAMS, tmp_path / "params"))


VALUE = {"source": "paper", "split": "val", "epochs": 12, "AP": 42.5, "AP50": 59.8}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"source": "papr"}, "row 'tood' has the source 'papr', which 'sources' lacks; did you mean 'paper'"),
        ({"AP": 0.425}, "'rows.tood.values.0.AP' is 0.425 but must be greater than or equal to 1"),
        ({"AP": 142.5}, "'rows.tood.values.0.AP' is 142.5 but must be less than or equal to 100"),
        ({"AP": 60.1}, "AP50 59.8 is below AP 60.1"),
        ({"AP75": 61.0}, "AP50 59.8 is below AP75 61.0"),
        ({"split": "minival"}, "'minival', which is not a valid name; did you mean 'val'?"),
        ({"AP05": 1.0}, "'rows.tood.values.0.AP05' is unknown; did you mean"),
        ({"AP": None}, "'rows.tood.values.0.AP' is empty but must be a number"),
    ],
)
def test_values_that_cannot_be_right_are_refused(params: Path, change: dict[str, Any], sentence: str) -> None:
    content = {
        "title": "Mine",
        "dataset": "coco2017",
        "sources": {"paper": "A paper"},
        "rows": {"tood": {"values": [{**VALUE, **change}]}},
    }
    path = params / "published/mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as caught:
        load_published("mine", params)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_study_that_names_other_numbers_than_there_are_is_refused(params: Path) -> None:
    path = params / "studies/demo.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "published": "paper/tabel3"}))
    with pytest.raises(UserError, match=r"demo\.yaml: field 'published': there is no .*; did you mean 'paper/table3'"):
        load_study("demo", params)


def test_numbers_for_an_unknown_data_set_are_refused(params: Path) -> None:
    path = params / "published/paper/table3.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "dataset": "coco17"}))
    with pytest.raises(UserError, match=r"table3\.yaml: field 'dataset': there is no .*; did you mean 'coco2017'"):
        load_published("paper/table3", params)


def test_published_numbers_change_no_run_but_redo_the_table(params: Path) -> None:
    before = {name: run.fingerprint for name, run in load_study("paper/table3", params).runs.items()}
    path = params / "studies/paper/table3.yaml"
    content = yaml.safe_load(path.read_text())
    assert content.pop("published") == "paper/table3"
    named = pipeline(load_study("paper/table3", params))["stages"]
    path.write_text(yaml.safe_dump(content))
    assert {name: run.fingerprint for name, run in load_study("paper/table3", params).runs.items()} == before
    unnamed = pipeline(load_study("paper/table3", params))["stages"]
    file = "params/published/paper/table3.yaml"
    assert [stage for stage in named if file in str(named[stage])] == ["compare"]
    assert file not in str(unnamed)
