"""What the workflow asks before anything runs."""

import os
from pathlib import Path

import pytest

from tood.config.study import load_study
from tood.config.study_file import Selection
from tood.io.errors import UserError
from tood.io.shared_constants import MIRROR
from tood.workflow.code_choice import CodeChoice
from tood.workflow.settings import gpus_per_run, read_settings, study_reference, threads_of_runs

ROOT = Path(__file__).parents[2]


def test_reading_a_study_loads_no_library_but_torch() -> None:
    """Every command that reads one waits for what it imports."""
    import subprocess
    import sys

    script = "import sys; from tood.config.study import load_study; load_study('demo'); print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "torch" in said.split()
    assert not {"torchvision", "mlflow", "pandas", "matplotlib", "snakemake"} & set(said.split())


def test_gpus_are_counted_or_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    assert read_settings({}).gpus == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert read_settings({}).gpus == 0
    assert read_settings({"gpu": 4}).gpus == 4


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"gpu": "four"}, "gpu=four: must be 'auto' or a whole number"),
        ({"gpu": -1}, "gpu=-1: must be"),
        ({"threads": "many"}, "threads=many: must be a whole number"),
        ({"threads": -2}, "threads=-2: must be"),
        ({"follow": "maybe"}, "follow=maybe: must be yes or no"),
        ({"accumulate": -1}, "accumulate=-1: must be a whole number (0 takes as many as it needs)"),
        ({"accumulate": "twice"}, "accumulate=twice: must be"),
        ({"code": "maybe"}, "code=maybe: must be ask, keep or new"),
        ({"code_minutes": "long"}, "code_minutes=long: must be a number of minutes"),
        ({"code_minutes": -1}, "code_minutes=-1: must be"),
        ({"code": "kep"}, "--config code=kep: must be ask, keep or new; did you mean 'keep'?"),
        ({"study": "demo dataset=shapes"}, "'study=demo dataset=shapes': holds several settings"),
        ({"study": "demo,scale=demo"}, "holds several settings"),
        ({"mirror": "/no/such folder {x}"}, "--config mirror=/no/such folder {x}: no such folder"),
        ({"mirror": __file__}, "is a file; give the folder"),
        ({"studdy": "bccd"}, "there is no 'studdy'; did you mean 'study'?"),
        ({"study": "demo@shapes", "dataset": "bccd"}, "names two of data set, scale"),
        ({"study": "demo@demo", "scale": "demo"}, "names two of data set, scale"),
        ({"dataset": "shapes", "scale": "demo"}, "dataset=shapes scale=demo: names two of"),
        ({"dataset": "demo"}, "'demo' is a scale; say scale=demo."),
        ({"scale": "shapes"}, "'shapes' is a data set; say dataset=shapes."),
        ({"scale": "demmo"}, "there is neither params/datasets/demmo.yaml nor params/scales/demmo.yaml; did you mean"),
    ],
)
def test_a_wrong_setting_is_one_sentence(config: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        read_settings(config)
    assert sentence in str(caught.value)


def test_what_becomes_of_finished_trainings_is_said_by_the_command_or_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (read_settings({}).code.choice, read_settings({}).code.minutes) == ("ask", 10)
    monkeypatch.setenv("TOOD_CODE", "keep")
    monkeypatch.setenv("TOOD_CODE_MINUTES", "90")
    assert (read_settings({}).code.choice, read_settings({}).code.minutes) == ("keep", 90)
    assert read_settings({"code": "new", "code_minutes": 0}).code.choice == "new"


@pytest.mark.parametrize(
    ("variable", "value"), [("TOOD_CODE", "kep"), ("TOOD_CODE_MINUTES", "ten"), ("TOOD_CODE_MINUTES", "nan")]
)
def test_a_wrong_variable_is_named_as_such(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=f"^{variable}={value}: must be"):
        read_settings({})


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOD_CODE", "")
    monkeypatch.setenv("TOOD_CODE_MINUTES", "")
    assert read_settings({}).code == CodeChoice()


def test_a_mirror_may_have_any_name_and_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my 'data' {x}").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(MIRROR, "")
    read_settings({"mirror": "~/my 'data' {x}"})
    assert os.environ[MIRROR] == str(tmp_path / "my 'data' {x}")


@pytest.mark.parametrize(
    ("cores", "seeds", "threads"),
    [
        (1, 1, [1, 1, 1]),
        (2, 1, [1, 1, 2]),
        (3, 1, [1, 1, 1]),
        (8, 1, [2, 2, 2]),
        (2, 2, [1] * 6),
        (4, 2, [1] * 4 + [2] * 2),
    ],
)
def test_cores_are_shared_out_so_that_all_runs_end_soonest(
    monkeypatch: pytest.MonkeyPatch, cores: int, seeds: int, threads: list[int]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    study = load_study("own@shapes", selection=Selection(seeds, ()))
    assert list(threads_of_runs(read_settings({}), study, cores, 0).values()) == threads


def test_threads_are_as_given_or_those_beside_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study("demo")
    assert set(threads_of_runs(read_settings({"threads": 5}), study, 8, 0).values()) == {5}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    assert set(threads_of_runs(read_settings({}), study, 64, 8).values()) == {64}
    assert set(threads_of_runs(read_settings({}), study, 64, 4).values()) == {32}


@pytest.mark.parametrize(("config", "study", "gpus"), [({}, "demo", 8), ({}, "own@shapes", 4), ({"gpu": 6}, "demo", 6)])
def test_a_run_gets_the_gpus_that_its_images_can_be_shared_out_to(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, int], study: str, gpus: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    assert gpus_per_run(read_settings(config), load_study(study)) == gpus


def test_the_default_study_is_demo() -> None:
    assert study_reference(None, None, None) == "demo"


def test_a_data_set_and_a_scale_stand_behind_the_study() -> None:
    assert study_reference("bccd", "shapes", None, ROOT / "params") == "bccd@shapes"
    assert study_reference("paper/table3", None, "demo", ROOT / "params") == "paper/table3@demo"
    assert study_reference("paper/table3@demo", None, None, ROOT / "params") == "paper/table3@demo"
