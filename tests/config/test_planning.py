"""What the workflow asks before anything runs."""

from pathlib import Path

import pytest

from tood.errors import UserError
from tood.planning import code_files, gpus_per_run, study_reference

ROOT = Path(__file__).parents[2]


def test_code_of_a_verb_is_what_it_can_reach() -> None:
    prepare, train, compare = code_files("prepare"), code_files("train"), code_files("compare")
    assert all((ROOT / path).is_file() for path in {*prepare, *train, *compare})
    assert "src/tood/data/voc.py" in prepare
    assert not any("/detection/" in path or "/training/" in path for path in prepare)
    assert {"src/tood/detection/assigners/task_aligned.py", "src/tood/training/loop.py"} <= set(train)
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


def test_gpus_are_counted_or_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    assert gpus_per_run("auto") == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus_per_run("auto") == 0
    assert gpus_per_run(4) == 4
    for wrong in ("four", -1, 1.5):
        with pytest.raises(UserError, match="gpu="):
            gpus_per_run(wrong)


def test_the_default_study_is_demo() -> None:
    assert study_reference(None, None) == "demo"
    assert study_reference("bccd", "mine") == "bccd@mine"
