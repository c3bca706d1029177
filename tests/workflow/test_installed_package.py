"""The wheel by itself: built from the sources, installed without them, with a project made by ``tood new``."""

import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from once import BuildOnce
from PIL import Image

from tood.workflow.dvc_pipelines import CODE, code_digests, study_names
from tood.workflow.project_files import NAMES

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "src", *NAMES)
pytestmark = pytest.mark.long


def run(folder: Path, *command: str | Path) -> str:
    """What a command says that knows nothing of the sources."""
    hidden = ("PYTHONPATH", "TOOD_MIRROR", "MLFLOW_TRACKING_URI", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(command, cwd=folder, env=kept, text=True, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout + done.stderr


def install(folder: Path) -> None:
    """An environment in ``folder/venv`` with the wheel, and with the dependencies of the one that tests run in."""
    sources, venv = folder / "sources", folder / "venv"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, sources / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
    offline = ("--no-deps", "--no-index")
    run(folder, *pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", folder / "wheels", sources)
    shutil.rmtree(sources)  # whatever still needs them fails
    run(folder, sys.executable, "-m", "venv", "--without-pip", venv)
    (wheel,) = (folder / "wheels").iterdir()
    run(folder, *pip, "--python", venv / "bin/python", "install", *offline, wheel)
    (packages,) = (venv / "lib").glob("python*/site-packages")
    # Lines of a .pth file are searched for packages, but not for other .pth files, such as the one of an editable tood.
    paths = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(paths)))
    run(folder, venv / "bin/tood", "new", folder / "project")


@pytest.fixture(scope="module")
def installed(build_once: BuildOnce) -> Path:
    return build_once("installed", install)


@pytest.fixture
def project(installed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(installed / "project", tmp_path / "project")


def snakemake(installed: Path, folder: Path, *arguments: str) -> str:
    return run(folder, installed / "venv/bin/python", "-m", "snakemake", *arguments, "--cores", "2")


def test_code_is_judged_by_the_installed_package(installed: Path, project: Path) -> None:
    program = (
        "import json, tood\n"
        "from tood.workflow.dvc_pipelines import code_digests\n"
        "print(json.dumps([tood.__file__, code_digests()]))\n"
    )
    file, digests = yaml.safe_load(run(project, installed / "venv/bin/python", "-c", program))
    assert Path(file).is_relative_to(installed / "venv")
    assert digests == code_digests() == yaml.safe_load((project / CODE).read_text())


def test_every_shipped_study_is_planned(installed: Path, project: Path) -> None:
    studies = study_names(project / "params")
    assert len(studies) >= 14
    (project / ".snakemake").mkdir()

    def planned(study: str) -> bool:
        return "compare" in snakemake(installed, project, "-n", "--config", f"study={study}")

    with ThreadPoolExecutor(2) as pool:
        assert dict(zip(studies, pool.map(planned, studies), strict=True)) == dict.fromkeys(studies, True)


def test_a_study_on_own_data_runs(installed: Path, project: Path, tmp_path: Path) -> None:
    place = tmp_path / "export"
    for split, count in (("train", 6), ("val", 3)):
        for index in range(count):
            pictures, labels = place / "images" / split, place / "labels" / split
            for folder in (pictures, labels):
                folder.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([count, index]).integers(0, 256, (96, 128, 3), np.uint8)
            Image.fromarray(noise).save(pictures / f"{index}.png")
            (labels / f"{index}.txt").write_text(f"{index % 2} 0.5 0.5 0.4 0.5\n")
    (place / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    run(project, installed / "venv/bin/tood", "init", "mine", place)
    described = yaml.safe_load((project / "params/datasets/mine.yaml").read_text())
    assert (described["format"], described["root"]) == ("yolo", str(place))
    said = snakemake(installed, project, "-n", "--config", "study=own", "dataset=mine", "seeds=1")
    assert "train" in said
    assert "compare" in said
    shorten(project / "params/schedules/own.yaml")
    snakemake(installed, project, "--config", "study=own", "dataset=mine", "seeds=1", "methods=atss")
    table = (project / "results/own@mine/comparison.csv").read_text()
    assert table.splitlines()[1].startswith("atss,")


def shorten(schedule: Path) -> None:
    """Leave a few steps on small pictures, which train nothing and take every path."""
    written = yaml.safe_load(schedule.read_text())
    small = {"steps": 6, "evaluations": 1, "images": {"short": 64, "long": 64}}
    schedule.write_text(yaml.safe_dump(written | small))


def test_the_demo_takes_the_weights_that_come_along(installed: Path, project: Path) -> None:
    snakemake(installed, project, "data/pretrained/quick.pt")
    assert (project / "data/pretrained/quick.pt").read_bytes() == (ROOT / "params/pretrained/quick.pt").read_bytes()
