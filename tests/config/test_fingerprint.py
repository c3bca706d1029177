"""What a run's identity stands on: what changes the trained weights, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from tood.config.compose import merge
from tood.config.datasets import Draw, VocDataset, training_splits
from tood.config.study import RunConfig, load_study

PARAMS = Path(__file__).parents[2] / "params"


def run(study: str, name: str = "tood") -> RunConfig:
    return load_study(study, PARAMS).run(name)


def changed(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    other: RunConfig = RunConfig.model_validate(merge(config.model_dump(mode="json"), changes))
    assert other != config
    return other


SOURCE = {"archives": [{"url": "https://example.org/else.zip"}], "manifest": "other.csv"}


@pytest.mark.parametrize(
    "changes",
    [
        {"study": "other"},
        {"run": "other"},
        {"row": "other"},
        {"dataset": {"source": {"origin": "elsewhere", "license": "another"}}},
        {"dataset": {"source": SOURCE}},
        {"dataset": {"source": None, "root": "/data/cells"}},
        {"dataset": {"unreadable": "drop"}},
        {"dataset": {"drop_empty": True}},  # its choice is in the schedule, when the run is composed
        {"method": {"inference": {"score_threshold": 0.1, "nms_iou": 0.5}}},
        {"schedule": {"evaluate_every": 3}},
        {"schedule": {"evaluations": 3}},
        {"schedule": {"checkpoint_every": 7}},
        {"dataset": {"splits": {"test": "other.txt"}}},
        {"fitted": {"steps": 7, "images": {"short": 64, "long": 96}}},
    ],
)
def test_what_training_does_not_depend_on_leaves_the_fingerprint(changes: dict[str, Any]) -> None:
    config = run("bccd", "tood-0")
    assert changed(config, changes).fingerprint == config.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"dataset": {"name": "other"}},
        {"dataset": {"difficult": "drop"}},
        {"dataset": {"classes": ["WBC", "RBC", "Platelets"]}},
        {"dataset": {"splits": {"train": "other.txt"}}},
        {"dataset": {"splits": None, "draw": {"val": 0.3}}},
        {"dataset": {"annotations": "Other"}},
        {"dataset": {"tile": {"size": 320}}},
        {"method": {"head": {"convs": 5}}},
        {"method": {"criterion": {"assigner": {"topk": 9}}}},
        {"method": {"criterion": {"warmup_share": 0.4}}},
        {"backbone": {"width": 32}},
        {"backbone": {"weights": "none"}},
        {"backbone": {"pretraining": {"epochs": 9}}},
        {"schedule": {"lr": 0.5}},
        {"schedule": {"epochs": 61}},
        {"schedule": {"images": {"flip": 0.0}}},
        {"schedule": {"images": {"photometric": 0.5}}},
        {"schedule": {"images": {"crop": {}}}},
        {"schedule": {"images": {"jitter": None, "scale_jitter": [0.75, 1.25]}}},
        {"schedule": {"images": {"jitter": None, "short": 800, "long": 1333, "fit": {}}}},
        {"schedule": {"epochs": None, "steps": 100, "milestones": [], "milestone_shares": [0.5], "evaluations": 1}},
        {"schedule": {"ema": {}}},
        {"schedule": {"repeat": {}}},
        {"schedule": {"warmup": {"share": 0.1}}},
        {"backbone": {"pixels": {"mean": [127, 127, 127]}}},
        {"backbone": {"name": "light", "kind": "timm", "model": "resnet18"}},
        {"schedule": {"drop_empty": True}},
    ],
)
def test_what_training_depends_on_changes_the_fingerprint(changes: dict[str, Any]) -> None:
    config = run("bccd", "tood-0")
    assert changed(config, changes).fingerprint != config.fingerprint


def test_the_draw_is_part_of_the_fingerprint() -> None:
    config = changed(run("bccd", "tood-0"), {"dataset": {"splits": None, "draw": {"val": 0.3}}})
    assert changed(config, {"dataset": {"draw": {"seed": 5}}}).fingerprint != config.fingerprint


def test_the_split_that_others_are_drawn_out_of_is_part_of_the_fingerprint() -> None:
    dataset = run("bccd", "tood-0").dataset
    assert isinstance(dataset, VocDataset)
    given = dataset.model_copy(update={"splits": {"all": "all.txt", "test": "test.txt"}, "draw": Draw(out_of="all")})
    assert training_splits(given) == {"all"}


def test_generated_data_is_identified_by_size_and_seeds() -> None:
    config = run("demo")
    for changes in ({"size": 128}, {"splits": {"val": {"seed": 3}}}, {"splits": {"train": {"images": 10}}}):
        assert changed(config, {"dataset": changes}).fingerprint != config.fingerprint


def test_fingerprints_are_those_of_the_versions_before() -> None:
    """So that finished trainings are recognised; from before data sets could decide about images without objects.

    Those of COCO changed once, when its schedules began to leave the number format to the GPU.
    """
    known = {
        "bccd:atss-0": "063fb625259d6951",
        "bccd:gfl-0": "0e7f70bf3476d770",
        "bccd:tood-0": "6285d1efa727fecf",
        "coco_tiny:tood": "e760b916f5ecbcb1",
        "coco_1x:atss": "9efc57a7b8f98ed6",
        "coco_1x:gfl": "08ccf02d6344e7be",
        "coco_1x:tood": "eb6bc9ac614e9daf",
        "family:atss_s0": "4b269d8ec04ee759",
        "family:gfl_s0": "6f7747f23cfdca52",
        "family:tood_s0": "27fbc45e4875c5a9",
        "paper/table2:noisy_anchor": "be88705cfde1dfc6",
        "paper/table2@demo:noisy_anchor": "62b78ff30d3f365e",
        "paper/table2@demo:tal_18e": "4b393c100e1aa945",
    }
    assert {name: run(*name.split(":")).fingerprint for name in known} == known
