"""docs/python.md: every example runs, in its order, in a small project."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
STUDY = {
    "title": "demo",
    "dataset": "shapes",
    "baseline": "atss",
    "common": {
        "backbone": "light",
        "schedule": "quick",
        "overrides": {
            "backbone": {"weights": "none", "first_stage_width": 8, "width": 32, "norm_groups": 8},
            "schedule": {"steps": 6, "warmup": {"iterations": 1}, "precision": "float32"},
        },
    },
    "runs": {
        "atss": {"method": "atss"},
        "gfl": {"method": "gfl"},
        "tood": {
            "method": "tood",
            "overrides": {"method": {"criterion": {"warmup_epochs": None, "warmup_share": 0.5}}},
        },
    },
}
DATASET = {
    "format": "shapes",
    "size": 64,
    "splits": {"train": {"images": 16, "seed": 1}, "val": {"images": 6, "seed": 2}},
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study ``demo`` of few steps, of which ``tood`` is trained, and a photograph."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    for name, content in (("studies/demo", STUDY), ("datasets/shapes", DATASET)):
        (tmp_path / "params" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
@pytest.mark.usefixtures("project")
def test_every_example_runs() -> None:
    import tood

    tood.prepare("shapes")
    tood.train("results/demo/tood", gpu="0", threads=1)
    names: dict[str, Any] = {"__name__": "example"}
    for number, example in enumerate(EXAMPLES):
        exec(compile(example, f"docs/python.md, example {number + 1}", "exec"), names)
    assert len(EXAMPLES) == 7
    assert list(names["history"]["step"])[-1] == 6
    assert set(names["result"].per_class.columns) == {"AP", "AP50"}
    table = names["table"]
    assert isinstance(table, pd.DataFrame)
    assert set(table.index) == {"atss", "gfl", "tood"}
    assert Path("results/demo/report.html").is_file()
    assert Path("assignment.png").is_file()
    assert len(names["after"].locations)
