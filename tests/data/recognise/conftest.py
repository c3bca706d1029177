"""A project in which ``tood init`` runs, in this process."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tood.config.datasets import DatasetConfig, load_dataset
from tood.data.findings import Findings
from tood.data.formats.reading import read_dataset
from tood.data.formats.records import RawDataset
from tood.data.recognise.recognised import Choices
from tood.verbs import check_data
from tood.verbs.init_data import init as verb

from .exports import Export


@dataclass(frozen=True)
class Initialised:
    """What ``tood init`` wrote and printed."""

    ok: bool
    config: DatasetConfig
    dataset: RawDataset
    text: str
    output: str

    @property
    def pictures(self) -> dict[str, int]:
        return {split.name: len(split.images) for split in self.dataset.splits}

    @property
    def boxes(self) -> dict[str, int]:
        return {split.name: len(split.boxes) for split in self.dataset.splits}

    @property
    def names(self) -> dict[str, set[str]]:
        """Names of the pictures of each split."""
        return {split.name: {Path(image.file_name).name for image in split.images} for split in self.dataset.splits}


Init = Callable[..., Initialised]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "params" / "datasets").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(check_data, "sample_grid", lambda dataset, picture: 0)  # takes most of the time of a check
    return folder


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path / "my pictures")


@pytest.fixture
def init(project: Path, export: Export, caplog: pytest.LogCaptureFixture) -> Init:
    """Run ``tood init`` on the export, or on a file of it, and read what it describes."""

    def run(place: str = ".", *, name: str = "mine", force: bool = False, **choices: object) -> Initialised:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="tood"):
            ok = verb(name, export.root / place, Choices(**choices), force=force)
        config = load_dataset(name, Path("params"))
        findings = Findings()
        dataset = read_dataset(config, Path(config.root), findings)
        assert not (ok and findings.errors)
        text = (project / "params" / "datasets" / f"{name}.yaml").read_text()
        return Initialised(ok, config, dataset, text, caplog.text)

    return run
