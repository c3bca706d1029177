"""Schedules and images: lengths in epochs or in steps, what cannot stand beside each other, and stored forms."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tood.config.images import FitConfig, ImagesConfig
from tood.config.schedule import EmaConfig, ScheduleConfig, StepsConfig, WarmupConfig
from tood.config.study import RunConfig, load_study
from tood.io.errors import UserError

PARAMS = Path(__file__).parents[2] / "params"


def schedule(**fields: Any) -> ScheduleConfig:
    return ScheduleConfig.model_validate({"name": "x", **fields})


def test_the_length_is_in_epochs_unless_steps_are_given() -> None:
    plain = schedule()
    assert (plain.epochs, plain.steps, plain.milestones, plain.evaluations) == (12, None, [8, 11], None)
    for steps, kept in ((500, 500), ({}, StepsConfig()), ({"least": 900}, StepsConfig(least=900))):
        counted = schedule(steps=steps)
        assert (counted.epochs, counted.steps) == (None, kept)
        assert (counted.milestones, counted.milestone_shares, counted.evaluations) == ([], [0.7, 0.9], 5)
    own = schedule(steps=500, epochs=None, milestone_shares=[0.5], evaluations=3)
    assert (own.milestone_shares, own.evaluations) == ([0.5], 3)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"steps": 500, "epochs": 12}, "'epochs' or 'steps'"),
        ({"steps": {}, "epochs": 1}, "'epochs' or 'steps'"),
        ({"steps": 0}, "steps"),
        ({"steps": {"least": 9, "most": 8}}, "most must not be below least"),
        ({"steps": 500, "milestones": [8, 11]}, "milestones goes with 'epochs'"),
        ({"steps": 500, "milestone_shares": [0.5, 1]}, "milestone_shares.1"),
        ({"steps": 500, "milestone_shares": [0.9, 0.7]}, "milestone_shares must increase"),
        ({"steps": 500, "milestone_shares": [0.5, 0.5]}, "milestone_shares must increase"),
        ({"steps": 500, "milestone_shares": [0.0]}, "milestone_shares.0"),
        ({"steps": 500, "milestone_shares": [1.5]}, "milestone_shares.0"),
        ({"steps": 500, "evaluations": None}, "evaluations must be given"),
        ({"epochs": 12, "milestones": [0.7, 0.9]}, "milestones.0"),
        ({"epochs": 12, "milestone_shares": [0.7]}, "milestone_shares goes with 'steps'"),
        ({"epochs": 12, "milestones": [8, 12]}, "milestones must increase and lie below epochs"),
        ({"epochs": 12, "milestones": [11, 8]}, "milestones must increase and lie below epochs"),
        ({"epochs": 12, "milestones": [8, 8]}, "milestones must increase and lie below epochs"),
        ({"warmup": {"share": 1.5}}, "share"),
        ({"ema": {"decay": 1.0}}, "decay"),
        ({"repeat": {"threshold": 2}}, "threshold"),
        ({"evaluations": 0}, "evaluations"),
    ],
)
def test_schedules_that_contradict_themselves_are_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        schedule(**fields)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"jitter": [64, 96], "scale_jitter": [0.8, 1.2]}, "'jitter' .* or 'scale_jitter'"),
        ({"jitter": [96, 64]}, r"^.*jitter must be \[smallest, largest\]"),
        ({"scale_jitter": [1.2, 0.8]}, r"scale_jitter must be \[smallest, largest\]"),
        ({"scale_jitter": [0.0, 1.0]}, "scale_jitter"),
        ({"scale_jitter": [1.0, 11.0]}, "scale_jitter"),
        ({"short": 100, "long": 99}, "long must not be below short"),
        ({"fit": {}, "short": 640}, "short cannot be given beside 'fit'"),
        ({"fit": {}, "long": 1000}, "long cannot be given beside 'fit'"),
        ({"fit": {}, "jitter": [480, 800]}, "jitter cannot be given beside 'fit'"),
        ({"fit": {"least": 400, "most": 399}}, "most must not be below least"),
        ({"fit": {"object_side": 0}}, "object_side"),
        ({"crop": {"smallest": 0}}, "smallest"),
        ({"crop": {"probability": 1.1}}, "probability"),
        ({"photometric": -0.1}, "photometric"),
    ],
)
def test_images_that_contradict_themselves_are_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){named}"):
        ImagesConfig.model_validate(fields)


def test_every_problem_of_images_is_said_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        ImagesConfig.model_validate({"fit": {}, "short": 640, "long": 639, "jitter": [96, 64]})
    said = str(caught.value)
    for part in ("jitter must be", "long must not", "short cannot", "long cannot", "jitter cannot"):
        assert part in said


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"epochs": 60, "milestones": [45, 55], "images": {"jitter": [480, 800]}, "grad_clip": 10.0},
        {"epochs": 2, "milestones": [], "evaluations": 4, "warmup": {"share": 0.1}},
        {"steps": 700, "milestone_shares": [0.5], "evaluations": 2},
        {
            "steps": {"base": 100, "least": 10, "most": 1000},
            "warmup": {"share": 0.05},
            "ema": {},
            "repeat": {},
            "images": {"fit": {}, "scale_jitter": [0.75, 1.25], "crop": {}, "photometric": 0.5},
        },
    ],
)
def test_stored_schedules_are_read_as_what_they_were(fields: dict[str, Any]) -> None:
    written = schedule(**fields)
    assert ScheduleConfig.model_validate(written.model_dump(mode="json")) == written
    assert ScheduleConfig.model_validate_json(written.model_dump_json()) == written
    content = load_study("demo", PARAMS).run("tood").model_dump(mode="json")
    run = RunConfig.model_validate({**content, "schedule": written.model_dump(mode="json")})
    again = RunConfig.model_validate_json(run.model_dump_json())
    assert again == run
    assert again.fingerprint == run.fingerprint


def test_a_warm_up_may_be_a_share_of_all_steps() -> None:
    assert WarmupConfig().steps(99) == 500
    assert WarmupConfig(share=0.05).steps(1000) == 50
    assert WarmupConfig(share=0.0).steps(1000) == 0


def test_defaults_that_documents_name() -> None:
    assert (FitConfig().least, FitConfig().most, EmaConfig().decay) == (336, 640, 0.9998)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 500}, "'epochs' or 'steps'"),
        ({"epochs": None, "steps": 500}, "milestones goes with 'epochs'"),
        ({"images": {"fit": {}, "short": 300}}, "short cannot be given beside 'fit'"),
    ],
)
def test_a_refusal_names_the_file(params: Path, changes: dict[str, Any], said: str) -> None:
    path = params / "schedules/demo.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))
    with pytest.raises(UserError) as caught:
        load_study("demo", params)
    assert "schedules/demo.yaml" in str(caught.value)
    assert said in str(caught.value)


def test_steps_of_an_override_replace_the_epochs_of_a_file(params: Path) -> None:
    changes = {"schedule": {"epochs": None, "steps": 300, "milestones": [], "milestone_shares": [0.6]}}
    path = params / "studies/demo.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "runs": {"atss": {"method": "atss", "overrides": changes}}}))
    found = load_study("demo", params).run("atss").schedule
    assert (found.epochs, found.steps, found.milestone_shares) == (None, 300, [0.6])
