"""Backbones that come pretrained with the project: taken where the settings are theirs, else pretrained."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tood.config.backbone import load_backbone
from tood.config.study import load_study
from tood.detection.backbones import build_backbone
from tood.io.errors import UserError
from tood.verbs.pretrain_backbone import pretrain
from tood.workflow.code_digest import code_behind
from tood.workflow.pretrained import is_made_with, pretrained_standing

PARAMS = Path(__file__).parents[2] / "params"
SHIPPED = sorted((PARAMS / "pretrained").glob("*.pt"))
SMALL = {"crops": 64, "size": 32, "epochs": 1, "batch": 32}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("backbones", "pretrained"):
        shutil.copytree(PARAMS / folder, tmp_path / "params" / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_weights_are_those_of_the_backbone_as_it_is(file: Path) -> None:
    config = load_backbone(file.stem, PARAMS)
    assert is_made_with(file, config)
    backbone = build_backbone(config.model_copy(update={"weights": "none", "norm": None}))
    backbone.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert all(value.isfinite().all() for value in backbone.state_dict().values())


def test_the_backbone_of_the_demo_is_shipped() -> None:
    assert [file.stem for file in SHIPPED] == ["light", load_study("demo", PARAMS).run("tood").backbone.name]


def test_they_are_taken_and_up_to_date(project: Path) -> None:
    pretrain("light", None, 1)
    target = project / "data/pretrained/light.pt"
    assert target.read_bytes() == (PARAMS / "pretrained/light.pt").read_bytes()
    standing = pretrained_standing(target, load_backbone("light", Path("params")), code_behind("pretrain"))
    assert standing.state == "current"


def test_other_settings_are_pretrained(project: Path) -> None:
    path = project / "params/backbones/light.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "pretraining": SMALL}))
    pretrain("light", None, 1)
    assert (project / "data/pretrained/light.pt").read_bytes() != (PARAMS / "pretrained/light.pt").read_bytes()
    assert not is_made_with(project / "params/pretrained/light.pt", load_backbone("light", Path("params")))


@pytest.mark.parametrize("record", ["[]", "{", "{}"])
def test_weights_without_a_sound_record_are_not_taken(project: Path, record: str) -> None:
    (project / "params/pretrained/light.json").write_text(record)
    assert not is_made_with(project / "params/pretrained/light.pt", load_backbone("light", Path("params")))


def test_a_backbone_that_is_not_pretrained_here_is_refused(project: Path) -> None:
    with pytest.raises(UserError, match=r"lite0.yaml.*'weights' is 'packaged'"):
        pretrain("lite0", None, 1)
