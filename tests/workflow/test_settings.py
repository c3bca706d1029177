"""What the workflow asks before anything runs."""

from pathlib import Path

import pytest

from tood.config.parts import code_of
from tood.config.study import load_study
from tood.io.errors import UserError
from tood.workflow.code_digest import code_digest, code_files
from tood.workflow.settings import own_files_digest, read_settings, study_reference, threads_per_run

ROOT = Path(__file__).parents[2]


def test_code_of_a_verb_is_what_it_can_reach() -> None:
    prepare, train, compare = code_files("prepare"), code_files("train"), code_files("compare")
    assert all((ROOT / path).is_file() for path in {*prepare, *train, *compare})
    assert "src/tood/data/formats/voc.py" in prepare
    assert not any("/detection/" in path or "/training/" in path for path in prepare)
    assert {"src/tood/detection/heads/task_aligned.py", "src/tood/training/loop.py"} <= set(train)
    assert not any("/reporting/" in path or "/data/voc.py" in path for path in train)
    assert "src/tood/reporting/report.py" in compare
    assert not any("/training/" in path for path in compare)


@pytest.mark.parametrize("verb", ["prepare", "pretrain", "train", "evaluate", "compare"])
def test_nothing_that_runs_is_missing_from_the_code_of_a_verb(verb: str) -> None:
    """Import the verb in a fresh interpreter and hold what was really loaded against the static answer."""
    import subprocess
    import sys

    script = (
        f"import sys, tood.verbs.{verb}\n"
        "print('\\n'.join(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'tood'))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    found = {Path(line).relative_to(ROOT).as_posix() for line in loaded.split()}
    assert found
    assert found <= set(code_files(verb))


def test_code_of_a_run_is_its_own_assigner_and_criterion_too() -> None:
    runs = load_study("family", ROOT / "params").runs
    plain = set(code_files("train"))
    more = {row: set(code_files("train", code_of(runs[f"{row}_s0"].method))) - plain for row in ("tood", "gfl", "pisa")}
    folder = "src/tood/detection"
    assert {f"{folder}/criteria/task_aligned.py", f"{folder}/assigners/task_aligned.py"} <= more["tood"]
    assert f"{folder}/criteria/gfl.py" in more["gfl"]
    assert {f"{folder}/criteria/pisa.py", f"{folder}/assigners/max_iou.py"} <= more["pisa"]
    assert not any("gfl" in path or "task_aligned" in path for path in more["pisa"])
    assert code_digest("train", code_of(runs["gfl_s0"].method)) != code_digest("train")


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
        ({"accumulate": -1}, "accumulate=-1: must be a whole number (0 takes as many as it needs)"),
        ({"accumulate": "twice"}, "accumulate=twice: must be"),
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


def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert [threads_per_run(read_settings({}), cores, 3) for cores in (1, 2, 8)] == [1, 1, 2]
    assert threads_per_run(read_settings({"threads": 5}), 8, 3) == 5
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    assert threads_per_run(read_settings({}), 64, 3) == 64
    assert threads_per_run(read_settings({"gpu": 4}), 64, 3) == 32


def test_own_annotations_are_watched_and_pictures_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1")
    (tmp_path / "a.jpg").write_text("1")
    before = own_files_digest(str(tmp_path))
    (tmp_path / "a.jpg").write_text("22")
    assert own_files_digest(str(tmp_path)) == before
    (tmp_path / "a.txt").write_text("22")
    assert own_files_digest(str(tmp_path)) != before
    assert own_files_digest(None) == ""


def test_the_default_study_is_demo() -> None:
    assert study_reference(None, None, None) == "demo"


def test_a_data_set_and_a_scale_stand_behind_the_study() -> None:
    assert study_reference("bccd", "shapes", None, ROOT / "params") == "bccd@shapes"
    assert study_reference("paper/table3", None, "demo", ROOT / "params") == "paper/table3@demo"
    assert study_reference("paper/table3@demo", None, None, ROOT / "params") == "paper/table3@demo"
